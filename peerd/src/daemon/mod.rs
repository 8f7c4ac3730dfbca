//! The daemon: one task owns the core, and everything else reports to it or is told by it.
//!
//! Doors (`peer`, `room`, `registry`) hold a [`Handle`] and receive commands from [`Doors`].

mod doors;

pub use doors::{
    DoorReceivers, Doors, Gone, Handle, LinksCommand, LinksHandle, RegistryCommand, RegistryHandle,
};
