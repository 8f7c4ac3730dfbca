//! What a start may find: stale files, another instance, an old backup, another version.
