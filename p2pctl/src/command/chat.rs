//! `chat`: asks for a chat; without `--request` the conversation follows.

use std::time::Duration;

use peerd_proto::control::{self, ChatAnswer, ChatState};
use registryd_proto::{Code, Username};

use crate::{
    context::{Context, GRACE},
    duration,
    error::Error,
    exit::Exit,
};

/// How long a request rings unless told otherwise.
const RING: Duration = Duration::from_secs(60);

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// With whom
    #[arg(value_name = "USER")]
    pub username: Username,
    /// Only ask; the exit code is the answer
    #[arg(long)]
    pub request: bool,
    /// How long it rings, 1s to 1h [default: 60s]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub ring: Option<Duration>,
}

/// Carries the verb out.
///
/// # Errors
/// [`Error`].
pub async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Error> {
    let ring = args.ring.unwrap_or(RING);
    let limit = context.global.timeout.unwrap_or(ring.saturating_add(GRACE));
    let ring_ms = Some(u32::try_from(ring.as_millis()).unwrap_or(u32::MAX));
    let verb = control::Chat { username: args.username, ring_ms };
    let answer = context.call_within(limit, verb).await?;
    context.output.answer(&answer)?;
    Ok(outcome(&answer))
}

/// What the answer to a request means as an exit code.
fn outcome(answer: &ChatAnswer) -> Exit {
    match answer.state {
        ChatState::Active | ChatState::Allowed => Exit::Done,
        ChatState::Pending | ChatState::TimedOut => Exit::Code(Code::TimedOut),
        ChatState::Interrupted => Exit::Code(Code::PeerOffline),
        ChatState::Rejected | ChatState::Ended => Exit::Code(Code::Rejected),
        ChatState::Busy => Exit::Code(Code::Busy),
    }
}
