//! A user's script: one message after the other, each repeated under its id until peerd tells what it is.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use p2pchat_history::{Conversation, Count, Outcome, Wait};
use peerd_proto::control::{MessageState, RpcErrorData, Send, SentAnswer, Target, WaitUntil};
use registryd_proto::Code;
use serde::Deserialize;

use super::{
    chance::Chance,
    client::{CallError, Client},
    recorder::{Call, Recorder},
    stop::{Phase, Stop},
};

/// How long a call that waits for delivery waits.
const WAIT_MS: u64 = 2_000;
/// When a caller takes a peerd that says nothing for hung.
const PATIENCE: Duration = Duration::from_secs(8);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(25);
/// The longest padding of a text.
const PADDING_BYTES_MAX: u64 = 300;

/// Where messages go.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) conversation: Conversation,
    pub(super) target: Target,
    pub(super) epoch: Option<u64>,
}

/// A script of a user.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) who: String,
    /// Different for each lane of a user.
    pub(super) name: String,
    pub(super) socket: PathBuf,
    pub(super) places: Vec<Place>,
    pub(super) every: Duration,
    pub(super) chance: Chance,
    pub(super) recorder: Recorder,
    pub(super) stop: Stop,
}

impl Lane {
    /// Talks until told to finish, and finishes.
    pub(super) fn run(mut self) {
        let mut client = None;
        let mut due = Instant::now();
        for number in 0u64.. {
            // What was missed while nobody answered is not made up for.
            due = (due + self.every).max(Instant::now());
            let pause = due.saturating_duration_since(Instant::now());
            if self.stop.reached(Phase::Finishing, pause) {
                return;
            }
            let (place, call) = self.next(number);
            while !settles(&send(&mut client, &self.socket, &place, &call, &self.recorder)) {
                if self.stop.reached(Phase::Over, PAUSE) {
                    return;
                }
            }
        }
    }

    fn next(&mut self, number: u64) -> (Place, Call) {
        let place = self.chance.pick(&self.places).clone();
        let id = format!("{}-{}-{number}", self.who, self.name);
        let padding = usize::try_from(self.chance.below(PADDING_BYTES_MAX)).unwrap_or(0);
        let text = format!("{id} {}", "~".repeat(padding));
        let wait = if self.chance.below(4) == 0 { Wait::Delivered } else { Wait::Queued };
        let (who, to, epoch) = (self.who.clone(), place.conversation.clone(), place.epoch);
        (place, Call { who, to, epoch, id, text, wait })
    }
}

/// Whether the caller knows enough to go on to its next message.
fn settles(outcome: &Option<Outcome>) -> bool {
    match outcome {
        None | Some(Outcome::TimedOut | Outcome::Crashed | Outcome::Refused(_)) => false,
        Some(
            Outcome::Queued(_)
            | Outcome::Delivered(_)
            | Outcome::Expired
            | Outcome::Rejected
            | Outcome::Failed(_),
        ) => true,
    }
}

/// One call, written down; `None` if there was nobody to call. Connects where `client` has no connection.
pub(super) fn send(
    client: &mut Option<Client>,
    socket: &std::path::Path,
    place: &Place,
    call: &Call,
    recorder: &Recorder,
) -> Option<Outcome> {
    let mut connected = match client.take() {
        Some(client) => client,
        None => Client::connect(socket, PATIENCE).ok()?,
    };
    let params = Send {
        to: place.target.clone(),
        body: call.text.clone(),
        wait: match call.wait {
            Wait::Queued => WaitUntil::Queued,
            Wait::Delivered => WaitUntil::Delivered,
        },
        timeout_ms: Some(WAIT_MS),
        id: Some(call.id.parse().expect("our ids are ids")),
        expires_ms: None,
    };
    let op = recorder.invoked(call);
    let outcome = match connected.call(params) {
        Ok(sent) => {
            *client = Some(connected);
            outcome(&Told::from(sent), None)
        }
        Err(CallError::Refused(error)) => {
            *client = Some(connected);
            refusal(&error)
        }
        Err(CallError::Silent) => Outcome::TimedOut,
        Err(CallError::NotRunning(_) | CallError::Broken | CallError::Strange(_)) => {
            Outcome::Crashed
        }
    };
    recorder.told(op, outcome.clone());
    Some(outcome)
}

/// What is told of a message, in an answer or in the details of a refusal.
#[derive(Debug, Deserialize)]
struct Told {
    state: MessageState,
    #[serde(default)]
    delivered: u32,
    #[serde(default)]
    of: Option<u32>,
}

impl From<SentAnswer> for Told {
    fn from(sent: SentAnswer) -> Self {
        Self { state: sent.state, delivered: sent.delivered, of: Some(sent.of) }
    }
}

fn outcome(told: &Told, code: Option<Code>) -> Outcome {
    let count = Count { k: told.delivered, n: told.of.unwrap_or(1) };
    match told.state {
        MessageState::Queued => Outcome::Queued(count),
        MessageState::Delivered => Outcome::Delivered(count),
        MessageState::Expired => Outcome::Expired,
        MessageState::Rejected => Outcome::Rejected,
        MessageState::Failed => Outcome::Failed(code.unwrap_or(Code::Internal).as_str().to_owned()),
    }
}

/// A refusal that tells the message's state is an answer; a fault of peerd's own says nothing for certain.
fn refusal(error: &RpcErrorData) -> Outcome {
    let told = error.details.clone().and_then(|details| serde_json::from_value(details).ok());
    match (told, error.code) {
        (Some(told), code) => outcome(&told, Some(code)),
        (None, Code::Internal) => Outcome::Crashed,
        (None, code) => Outcome::Refused(code.as_str().to_owned()),
    }
}
