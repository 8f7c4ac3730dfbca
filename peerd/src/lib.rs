//! peerd: one user's daemon.
//!
//! The core (`core`) decides, the store (`store`) keeps, `daemon` owns both and passes inputs and effects;
//! `control`, `registry`, `peer` and `room` are its doors to the world, and know the daemon's handle and
//! the protocols, never each other.

pub mod control;
pub mod core;
pub mod daemon;
pub mod keys;
pub mod link;
pub mod peer;
pub mod registry;
pub mod room;
pub mod store;
