//! `end`: ends a chat, or withdraws a request.

use peerd_proto::control;
use registryd_proto::Username;

use crate::{context::Context, error::Error, exit::Exit};

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The chat with whom
    #[arg(value_name = "USER")]
    pub username: Username,
}

/// Carries the verb out.
///
/// # Errors
/// [`Error`].
pub async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Error> {
    context.simple(control::End { username: args.username }).await
}
