//! `ack`: tells that a named consumer of `listen` has dealt with all events up to a number.

use peerd_proto::control;

use crate::{context::Context, error::Error, exit::Exit};

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The name given to listen --as
    pub consumer: String,
    /// The highest number dealt with
    pub n: u64,
}

/// Carries the verb out.
///
/// # Errors
/// [`Error`].
pub async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Error> {
    context.simple(control::Ack { consumer: args.consumer, n: args.n }).await
}
