//! `outbox`: lists messages not yet delivered, gives one up, or tries them all now.

use clap::Subcommand;
use peerd_proto::{control, wire::MessageId};

use crate::{context::Context, error::Error, exit::Exit};

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to do; default: list
    #[command(subcommand)]
    pub action: Option<Action>,
}

/// What to do with the outbox.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// List the messages that wait
    List,
    /// Give a message up
    Cancel {
        /// Its id
        id: MessageId,
    },
    /// Try now to reach the recipients
    Retry,
}

/// Carries the verb out.
///
/// # Errors
/// [`Error`].
pub async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Error> {
    match args.action {
        None | Some(Action::List) => context.simple(control::Outbox {}).await,
        Some(Action::Cancel { id }) => context.simple(control::OutboxCancel { id }).await,
        Some(Action::Retry) => context.simple(control::OutboxRetry {}).await,
    }
}
