//! Conversations with a registry over its real ports: each request with its answers and its refusals,
//! presence, hostile clients, and the process around it. Loopback, port 0, temporary folders.

mod accounts;
mod admin;
mod client;
mod hostile;
mod invites;
mod metrics;
mod operator;
mod presence;
mod process;
mod rooms;
mod sessions;
