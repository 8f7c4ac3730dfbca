//! `history`: prints the messages of a conversation, oldest first, one event a line.

use peerd_proto::control::History;
use registryd_proto::{RoomName, Username};

use crate::{context::Context, error::Error, exit::Exit};

/// How many messages are printed without `--limit`.
const LIMIT_DEFAULT: u32 = 100;

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
    let mut wanted = args.limit.unwrap_or(LIMIT_DEFAULT);
    let mut before = None;
    let mut pages = Vec::new();
    loop {
        let (target, search) = (target.clone(), args.search.clone());
        let page = context.call(History { target, limit: Some(wanted), search, before }).await?;
        wanted = wanted.saturating_sub(u32::try_from(page.messages.len()).unwrap_or(u32::MAX));
        pages.push(page.messages);
        // Pages come from the newest; a page that holds nothing would lead nowhere.
        if page.earlier.is_none() || page.earlier == before || wanted == 0 {
            break;
        }
        before = page.earlier;
    }
    for message in pages.into_iter().rev().flatten() {
        context.output.answer(&message)?;
        if context.output.is_closed() {
            break;
        }
    }
    Ok(Exit::Done)
}
