//! `chat`: asks for a chat; without `--request` the conversation follows.

use std::time::Duration;

use p2pchat_host::duration;
use peerd_proto::control::{self, ChatAnswer, ChatState};
use registryd_proto::{Code, Username};

use crate::{
    client::ClientError,
    context::{Context, GRACE},
    conversation,
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
    if !args.request {
        return conversation::run(context, args.username, ring).await;
    }
    let limit = context.global.timeout.unwrap_or(ring.saturating_add(GRACE));
    let ring_ms = Some(u32::try_from(ring.as_millis()).unwrap_or(u32::MAX));
    let peer = args.username.clone();
    let verb = control::Chat { username: args.username, ring_ms };
    let answer = match context.call_within(limit, verb).await {
        Ok(answer) => answer,
        // An answer of the peer is an answer, however peerd words it.
        Err(error) => match state(&error) {
            Some(state) => ChatAnswer { peer, state },
            None => return Err(error),
        },
    };
    context.output.answer(&answer)?;
    Ok(conversation::outcome(&answer))
}

/// The answer of the peer in an error of peerd.
fn state(error: &Error) -> Option<ChatState> {
    let Error::Client(ClientError::Refused(refused)) = error else { return None };
    match refused.data.code {
        Code::Rejected => Some(ChatState::Rejected),
        Code::Busy => Some(ChatState::Busy),
        Code::TimedOut => Some(ChatState::TimedOut),
        _ => None,
    }
}
