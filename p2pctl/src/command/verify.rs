//! `verify`: shows the number that both sides can compare.

use peerd_proto::control;
use registryd_proto::Username;

use crate::{context::Context, error::Error, exit::Exit};

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Whom
    #[arg(value_name = "USER")]
    pub username: Username,
    /// The numbers were compared and are equal
    #[arg(long)]
    pub confirm: bool,
}

/// Carries the verb out.
///
/// # Errors
/// [`Error`].
pub async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Error> {
    context.simple(control::Verify { username: args.username, confirm: args.confirm }).await
}
