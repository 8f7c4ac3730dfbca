//! `contacts`: lists the contacts.

use peerd_proto::control;

use crate::{context::Context, error::Error, exit::Exit};

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Carries the verb out.
///
/// # Errors
/// [`Error`].
pub async fn run(_: Args, context: &mut Context<'_>) -> Result<Exit, Error> {
    context.simple(control::Contacts {}).await
}
