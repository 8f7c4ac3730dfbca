//! What is said to peerd.
//!
//! - [`control`]: the local API, JSON-RPC 2.0 over the local socket. p2pctl and any other program on the
//!   same machine and of the same user speak it.
//! - [`wire`]: the links between peers, binary frames over QUIC, and the signed entries of the replicated
//!   logs that they carry.
//!
//! This crate holds no socket and no clock. Each module's header is the specification of its protocol.

pub mod control;
pub mod wire;
