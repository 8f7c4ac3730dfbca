//! The pure core of peerd: every decision, and no IO.
//!
//! `Core::handle(input, now)` takes one thing that happened and says what is to be written and then done.
//! It has no clock, no socket, no file, no task; its randomness comes from a seed. So the simulator can
//! run thousands of peers with seeded faults in a second, and replay any of them.

pub mod durable;
pub mod input;
pub mod output;
pub mod replica;

pub use input::{CallId, CommandId, Input, LinkId, LinkKind, LoadId, Now};
pub use output::{Answer, CommandFailure, Effect, Output};
