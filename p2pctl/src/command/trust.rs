//! `trust`: takes the key that a contact shows now; what waits for it goes out.

use peerd_proto::control;
use registryd_proto::{PublicKey, Username};

use crate::{context::Context, error::Error, exit::Exit};

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Whom
    #[arg(value_name = "USER")]
    pub username: Username,
    /// Only if the key shown now is this one
    #[arg(long)]
    pub key: Option<PublicKey>,
}

/// Carries the verb out.
///
/// # Errors
/// [`Error`].
pub async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Error> {
    context.simple(control::Trust { username: args.username, key: args.key }).await
}
