//! Conversations of inputs between two or three cores, with time as an input.
//!
//! [`world::World`] wires cores to each other and to a registry in memory; nothing here waits.

mod account;
mod chat;
mod chat_book;
mod dial;
mod hostile;
mod message;
mod recall;
pub(super) mod registry;
mod room;
mod store;
mod trust;
mod world;
