//! `registryd admin`, as an operator runs it: each verb, who may, and what users notice.

mod door;
mod invites;
mod rooms;
mod sessions;
mod users;

use harness::{PASSWORD, Registry};
use serde_json::Value;

/// Makes an account as the operator, with [`PASSWORD`].
fn add_user(registry: &Registry, name: &str) -> Value {
    let args = ["users", "add", name, "--password-stdin"];
    registry.admin_with().args(&args).stdin(format!("{PASSWORD}\n")).run().ok()
}
