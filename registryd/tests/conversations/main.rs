//! Conversations with a registry over its real ports: each request with its answers and its refusals,
//! presence, hostile clients, and the process around it. Loopback, port 0, temporary folders.

mod accounts;
mod admin;
mod backups;
mod checks;
mod client;
mod configs;
mod hostile;
mod invites;
mod keys;
mod metrics;
mod operator;
mod pipeline;
mod presence;
mod process;
mod rooms;
mod sessions;
mod tool;
