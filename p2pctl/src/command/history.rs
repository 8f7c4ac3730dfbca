//! `history`: prints the messages of a conversation, oldest first, one event a line.

use peerd_proto::control;
use registryd_proto::{RoomName, Username};

use crate::{context::Context, error::Error, exit::Exit};

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The conversation with whom
    #[arg(value_name = "USER", required_unless_present = "room", conflicts_with = "room")]
    pub user: Option<Username>,
    /// The room instead of a user
    #[arg(long)]
    pub room: Option<RoomName>,
    /// The newest so many, at most 10000 [default: 100]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: Option<u32>,
    /// Only messages whose text contains this
    #[arg(long, value_name = "TEXT")]
    pub search: Option<String>,
}

/// Carries the verb out.
///
/// # Errors
/// [`Error`].
pub async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Error> {
    let target = super::target(args.user, args.room)?;
    let verb = control::History { target, limit: args.limit, search: args.search };
    for message in context.call(verb).await?.messages {
        context.output.answer(&message)?;
        if context.output.is_closed() {
            break;
        }
    }
    Ok(Exit::Done)
}
