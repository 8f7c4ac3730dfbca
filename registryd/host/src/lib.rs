//! What the programs ask of the machine that they run on: the same for each of them, and nothing of chats,
//! rooms or the registry.

#[cfg(feature = "daemon")]
pub mod copy;
pub mod duration;
pub mod lock;
pub mod password;
pub mod process;
pub mod terminal;
