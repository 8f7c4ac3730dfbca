//! Out of file descriptors, memory, or of readers who keep up.
