//! Processes killed at every write, sync and send, one by one and all at once.
