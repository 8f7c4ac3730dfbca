//! registryd: the central index of p2pchat.
//!
//! Accounts and rooms in SQLite, and who is online, by HELLO. It never carries or sees a message. The
//! library is the whole daemon; the binary only calls [`run()`]. Tests start a [`Server`] in their process.
//!
//! Code map: `server` opens the ports, `accept` lets in as many as `connections` has places for,
//! `connection` reads frames, `handler` answers requests with `store`, `presence`, `password` and `limits`;
//! `hello` answers datagrams; `error` says outside what went wrong inside; `instance` owns the data folder;
//! `stats` holds what all of them count, `metrics` shows it. What is outside of them is behind `store`,
//! `clock`, `random` and `outlet`, so that a simulator can drive all of it.

mod accept;
mod admin;
mod cli;
mod clock;
mod command;
mod config;
mod connection;
mod connections;
mod daemonize;
mod error;
mod handler;
mod hello;
mod instance;
mod key_file;
mod limits;
mod logging;
mod metrics;
mod outlet;
mod output;
mod password;
mod port;
mod presence;
mod random;
mod registry;
mod reload;
mod replace;
mod run;
mod server;
#[cfg(any(test, feature = "simulation"))]
pub mod simulation;
mod stats;
mod store;

pub use cli::Registration;
pub use config::{
    Config, ConfigError, ConnectionsConfig, HelloConfig, MetricsConfig, Problem, StoreConfig,
};
pub use instance::InstanceError;
pub use key_file::KeyFileError;
pub use limits::{Rate, Rates};
pub use metrics::{MetricsAddress, MetricsAddressError};
pub use reload::Reloaded;
pub use run::run;
pub use server::{Server, StartError};
