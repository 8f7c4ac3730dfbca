//! `wait`: returns when something has come true, or fails when the time is up.

use clap::Subcommand;
use peerd_proto::control::{self, WaitFor};
use registryd_proto::{RoomName, Username};

use crate::{
    context::{Context, GRACE},
    duration,
    error::Error,
    exit::Exit,
};

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// For what
    #[command(subcommand)]
    pub what: What,
}

/// What to wait for.
#[derive(Debug, Clone, Subcommand)]
pub enum What {
    /// Our session is online
    Online,
    /// A user is online
    Peer {
        /// Who
        #[arg(value_name = "USER")]
        username: Username,
    },
    /// A member's room link is up
    Member {
        /// In which room
        room: RoomName,
        /// Who
        #[arg(value_name = "USER")]
        username: Username,
    },
}

/// Carries the verb out. peerd counts the time; the own deadline is a little later.
///
/// # Errors
/// [`Error`].
pub async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Error> {
    let what = match args.what {
        What::Online => WaitFor::Online,
        What::Peer { username } => WaitFor::Peer { username },
        What::Member { room, username } => WaitFor::Member { room, username },
    };
    let timeout = context.timeout();
    let verb = control::Wait { what, timeout_ms: Some(duration::as_ms(timeout)) };
    let answer = context.call_within(timeout.saturating_add(GRACE), verb).await?;
    context.output.answer(&answer)?;
    Ok(Exit::Done)
}
