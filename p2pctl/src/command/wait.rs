//! `wait`: returns when something has come true, or fails when the time is up.

use std::time::{Duration, Instant};

use clap::Subcommand;
use p2pchat_host::duration;
use peerd_proto::control::{self, WaitFor};
use registryd_proto::{Code, RoomName, Username};

use crate::{
    context::{Context, GRACE},
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

/// How often a peerd that is not there is looked for.
const LOOK: Duration = Duration::from_millis(200);

/// Carries the verb out. peerd counts the time; the own deadline is a little later. With `--timeout` a peerd
/// that does not run is waited for as well: a script that starts it need not know when it is ready.
///
/// # Errors
/// [`Error`].
pub async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Error> {
    let what = match args.what {
        What::Online => WaitFor::Online,
        What::Peer { username } => WaitFor::Peer { username },
        What::Member { room, username } => WaitFor::Member { room, username },
    };
    let (timeout, patient) = (context.timeout(), context.global.timeout.is_some());
    let begun = Instant::now();
    let mut left = timeout;
    loop {
        let verb = control::Wait { what: what.clone(), timeout_ms: Some(duration::as_ms(left)) };
        match context.call_within(left.saturating_add(GRACE), verb).await {
            Ok(answer) => {
                context.output.answer(&answer)?;
                return Ok(Exit::Done);
            }
            Err(error) if patient && left > LOOK && error.code() == Code::PeerdNotRunning => {
                tokio::time::sleep(LOOK).await;
                left = timeout.saturating_sub(begun.elapsed());
            }
            Err(error) => return Err(error),
        }
    }
}
