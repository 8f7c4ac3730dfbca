//! `listen`: prints events as they come, one a line, each flushed.
//!
//! Ends with 0 after `--count` events, after `--idle` without an event, or when the reader of stdout goes
//! away; with `timed_out` after `--timeout`. When peerd stops it ends with `peerd_not_running` at once, or
//! with `--reconnect` tries again and goes on after the last number that it printed. A reader that peerd
//! cut because it was slow goes on so in any case.
//!
//! Invariant: within one log of events no number is printed twice, and with `--ack-written` none is
//! acknowledged before its line is flushed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use p2pchat_host::duration;
use peerd_proto::control::{self, EventKind, Timestamp};
use registryd_proto::{Code, RoomName, Username};
use serde_json::Map;
use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    client::{ClientError, Connection, EventLine, Notice},
    context::{Context, TIMEOUT, within},
    error::Error,
    exit::Exit,
};

/// The first and the longest pause between two attempts to reach peerd.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Begin with the event after this number [default: after the newest]
    #[arg(long, value_name = "N", conflicts_with = "consumer")]
    pub after: Option<u64>,
    /// As a named consumer: begin after what it acknowledged; a new one begins after the newest
    #[arg(long = "as", value_name = "NAME")]
    pub consumer: Option<String>,
    /// Acknowledge each event when its line is written
    #[arg(long, requires = "consumer")]
    pub ack_written: bool,
    /// Only events about this user
    #[arg(long, value_name = "USER")]
    pub from: Option<Username>,
    /// Only events about this room
    #[arg(long, value_name = "ROOM")]
    pub room: Option<RoomName>,
    /// Only this type of event, such as message, presence or chat_request; may be repeated
    #[arg(long = "type", value_name = "TYPE", value_parser = EventKind::TYPES)]
    #[arg(hide_possible_values = true)]
    pub types: Vec<String>,
    /// End after so many events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// End when no event came for so long
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub idle: Option<Duration>,
    /// Try again when peerd stops, and go on after the last event
    #[arg(long)]
    pub reconnect: bool,
}

/// Carries the verb out.
///
/// # Errors
/// [`Error`].
pub async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Error> {
    let limit = context.global.timeout;
    let mut listener = Listener::new(args, context);
    match limit {
        Some(limit) => within(limit, listener.run()).await?,
        None => listener.run().await?,
    }
    Ok(Exit::Done)
}

/// A stream of events over as many connections as it takes.
struct Listener<'a, 'b> {
    args: Args,
    context: &'a mut Context<'b>,
    /// The log that the numbers belong to, once peerd has told.
    log: Option<String>,
    /// Where to go on: after `--after`, the head at the start, or the last number printed.
    position: Option<u64>,
    printed: u64,
    last_event: Instant,
    acks: Option<Connection>,
}

/// Why a connection is done with.
enum End {
    /// All that was asked for has been printed.
    Complete,
    /// The numbers are those of another log: begin it anew.
    OtherLog,
}

impl<'a, 'b> Listener<'a, 'b> {
    fn new(args: Args, context: &'a mut Context<'b>) -> Self {
        let position = args.after;
        let last_event = Instant::now();
        Self { args, context, log: None, position, printed: 0, last_event, acks: None }
    }

    async fn run(&mut self) -> Result<(), Error> {
        let mut pause = BACKOFF.0;
        let idle = self.args.idle;
        loop {
            let printed = self.printed;
            match self.one_connection().await {
                Ok(End::Complete) => return Ok(()),
                Ok(End::OtherLog) => continue,
                Err(error) if !self.may_retry(&error, self.printed > printed) => {
                    return Err(error);
                }
                Err(error) => self.context.output.remark(&format!("p2pctl: {error}; trying again")),
            }
            self.acks = None;
            if self.printed > printed {
                pause = BACKOFF.0;
            }
            let until = Instant::now() + pause;
            if idle.is_some_and(|idle| until > self.last_event + idle) {
                return Ok(());
            }
            sleep(pause).await;
            pause = (pause * 2).min(BACKOFF.1);
        }
    }

    /// Without `--reconnect` a connection that broke after it brought something is tried once more: peerd
    /// may have cut a slow reader, and be well.
    fn may_retry(&self, error: &Error, progress: bool) -> bool {
        match error {
            Error::Client(ClientError::Gone | ClientError::Broken(_)) if progress => true,
            error => {
                let gone = matches!(error.code(), Code::PeerdNotRunning | Code::TimedOut);
                self.args.reconnect && gone
            }
        }
    }

    /// Listens until the end of what was asked for, or of the connection.
    async fn one_connection(&mut self) -> Result<End, Error> {
        let mut connection = within(TIMEOUT, self.context.connect()).await?;
        // A consumer's place is peerd's to know; what it has printed already is left out here.
        let after = if self.args.consumer.is_some() { None } else { self.position };
        let verb = control::Listen {
            after,
            consumer: self.args.consumer.clone(),
            ack_written: false,
            from: self.args.from.clone(),
            room: self.args.room.clone(),
            types: self.args.types.clone(),
        };
        let answer = within(TIMEOUT, async { Ok(connection.call(verb).await?) }).await?;
        if self.log.as_ref().is_some_and(|log| *log != answer.log) {
            self.log = Some(answer.log);
            self.position = Some(0);
            self.context.output.answer(&lagged(1))?;
            return Ok(End::OtherLog);
        }
        self.log = Some(answer.log);
        if self.position.is_none() && self.args.consumer.is_none() {
            self.position = Some(answer.head);
        }
        self.stream(&mut connection).await
    }

    async fn stream(&mut self, connection: &mut Connection) -> Result<End, Error> {
        loop {
            let idle = self.args.idle.map(|idle| self.last_event + idle);
            let notice = tokio::select! {
                biased;
                notice = connection.notice() => notice?,
                () = passed(idle) => return Ok(End::Complete),
            };
            self.print(notice)?;
            let complete = self.args.count == Some(self.printed) || self.context.output.is_closed();
            if complete || !connection.has_more() {
                self.acknowledge().await?;
            }
            if complete {
                return Ok(End::Complete);
            }
        }
    }

    fn print(&mut self, notice: Notice) -> Result<(), Error> {
        match notice {
            Notice::Lagged { resume } => {
                self.position = Some(resume.saturating_sub(1));
                self.context.output.answer(&lagged(resume))
            }
            Notice::Event(event) if event.n <= self.position => Ok(()),
            Notice::Event(event) => {
                self.context.output.answer(&event)?;
                self.last_event = Instant::now();
                if !self.context.output.is_closed() {
                    self.position = event.n;
                    self.printed += 1;
                }
                Ok(())
            }
        }
    }

    /// Tells peerd the last number that was written, on a connection of its own: this one only streams.
    async fn acknowledge(&mut self) -> Result<(), Error> {
        let (Some(consumer), Some(n)) = (&self.args.consumer, self.position) else { return Ok(()) };
        if !self.args.ack_written || self.printed == 0 {
            return Ok(());
        }
        let ack = control::Ack { consumer: consumer.clone(), n };
        let mut connection = match self.acks.take() {
            Some(connection) => connection,
            None => within(TIMEOUT, self.context.connect()).await?,
        };
        within(TIMEOUT, async { Ok(connection.call(ack).await?) }).await?;
        self.acks = Some(connection);
        Ok(())
    }
}

/// Returns when `deadline` has passed; without one, never.
async fn passed(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// The notice as an event without a number, told to this reader alone.
fn lagged(resume: u64) -> EventLine {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    EventLine {
        n: None,
        time: Timestamp::from_ms(duration::as_ms(since)),
        kind: "lagged".to_owned(),
        fields: Map::from_iter([("resume".to_owned(), resume.into())]),
    }
}
