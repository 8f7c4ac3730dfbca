//! Disks that are full, fail, forget or hang.
