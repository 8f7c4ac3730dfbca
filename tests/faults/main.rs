//! Every row of the table of faults, with the real binaries.
//!
//! Each test is named for what a user would see. Tests that need what this machine lacks (root, a C
//! compiler) say so loudly on stderr and pass; `.ci/run` runs where nothing is lacking.

mod clocks;
mod disk;
mod hangs;
mod kills;
mod limits;
mod network;
mod peer_kills;
mod people;
mod power;
mod registry_kills;
mod startup;
mod sweep;
mod syscalls;
mod upgrade;
