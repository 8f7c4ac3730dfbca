//! The real p2pctl against a peerd of cardboard: what goes over the socket, what is printed, and the exit
//! code. Every call has an empty environment, as from cron.

mod chat;
mod exit_codes;
mod fake;
mod listen;
mod send;
mod surface;
