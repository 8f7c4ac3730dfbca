//! `send`: one message, or one for each line of stdin.
//!
//! Exit code 0 means that the state asked for is reached: by default that the message is on the disk of
//! every recipient. When the time is up first, the message stays queued and the error says so with its id.

use std::{
    io::{self, BufReader},
    time::Duration,
};

use clap::ValueEnum;
use p2pchat_host::duration;
use peerd_proto::{
    control::{self, MessageState, SentAnswer, Target, WaitUntil},
    wire::MessageId,
};
use registryd_proto::{RoomName, Username};

use crate::{
    client::Connection,
    context::{Context, GRACE, within},
    error::Error,
    exit::Exit,
    text_input,
};

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "p2pctl send [OPTIONS] USER TEXT\n       p2pctl send [OPTIONS] --room ROOM TEXT"
)]
pub struct Args {
    /// USER and TEXT, or TEXT alone with --room; TEXT '-' is all of stdin but its last line feed
    #[arg(value_name = "USER|TEXT", num_args = 1..=2, required = true)]
    pub words: Vec<String>,
    /// To a room instead of a user
    #[arg(long)]
    pub room: Option<RoomName>,
    /// What to wait for
    #[arg(long, value_name = "STATE", default_value = "delivered")]
    pub wait: WaitWord,
    /// The same KEY and text again are the same message; with --lines KEY-1, KEY-2 …
    #[arg(long, value_name = "KEY")]
    pub id: Option<MessageId>,
    /// Give up if it is not delivered by then [default: never]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub expires: Option<Duration>,
    /// Send each line of stdin as a message, one after the other; empty lines are skipped
    #[arg(long)]
    pub lines: bool,
}

/// What to wait for, as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WaitWord {
    /// The message is durable here
    Queued,
    /// All recipients have it on disk
    Delivered,
}

/// Carries the verb out.
///
/// # Errors
/// [`Error`]; with `--lines` an [`Error::Line`] that names the first line that failed, after which none was
/// sent.
pub async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Error> {
    let (to, text) = destination(&args)?;
    let template = control::Send {
        to,
        body: String::new(),
        wait: match args.wait {
            WaitWord::Queued => WaitUntil::Queued,
            WaitWord::Delivered => WaitUntil::Delivered,
        },
        timeout_ms: Some(duration::as_ms(context.timeout())),
        id: args.id,
        expires_ms: args.expires.map(duration::as_ms),
    };
    match (args.lines, text.as_str()) {
        (true, "-") => return lines(template, context).await,
        (true, _) => {
            return Err(Error::Misuse {
                message: "--lines reads stdin",
                hint: "give '-' as TEXT: p2pctl send USER - --lines",
            });
        }
        (false, "-") => {
            let body = text_input::whole(io::stdin().lock())?;
            one(control::Send { body, ..template }, context).await?;
        }
        (false, _) => one(control::Send { body: text, ..template }, context).await?,
    }
    Ok(Exit::Done)
}

/// Splits the words into whom and what.
fn destination(args: &Args) -> Result<(Target, String), Error> {
    match (&args.words[..], &args.room) {
        ([text], Some(room)) => Ok((Target::Room(room.clone()), text.clone())),
        ([user, text], None) => {
            let user: Username = user.parse().map_err(|error| {
                Error::Usage(format!("invalid value '{user}' for USER: {error}"))
            })?;
            Ok((Target::User(user), text.clone()))
        }
        _ => Err(Error::Misuse {
            message: "expected USER TEXT, or --room ROOM TEXT",
            hint: "quote a text with blanks; '-' as TEXT reads stdin",
        }),
    }
}

async fn one(send: control::Send, context: &mut Context<'_>) -> Result<(), Error> {
    let limit = context.timeout().saturating_add(GRACE);
    let sent = within(limit, async { deliver(&mut context.connect().await?, send).await }).await?;
    context.output.answer(&sent)
}

/// Sends each line over one connection; each has the whole time.
async fn lines(template: control::Send, context: &mut Context<'_>) -> Result<Exit, Error> {
    let limit = context.timeout().saturating_add(GRACE);
    let mut connection = within(limit, context.connect()).await?;
    let mut stdin = BufReader::new(io::stdin());
    for line in 1.. {
        let at_line = |source: Error| Error::Line { line, source: Box::new(source) };
        // Nothing else goes on here: it may block.
        let Some(body) = text_input::line(&mut stdin).map_err(|error| at_line(error.into()))?
        else {
            break;
        };
        if body.is_empty() {
            continue;
        }
        let id = template.id.as_ref().map(|key| key_of_line(key, line)).transpose()?;
        let send = control::Send { body, id, ..template.clone() };
        let sent = within(limit, deliver(&mut connection, send)).await.map_err(at_line)?;
        context.output.answer(&sent)?;
    }
    Ok(Exit::Done)
}

fn key_of_line(key: &MessageId, line: u64) -> Result<MessageId, Error> {
    format!("{key}-{line}").parse().map_err(|_| Error::Misuse {
        message: "the --id is too long to number the lines",
        hint: "use a shorter one",
    })
}

/// Sends one message and makes sure that the answer is the state that was asked for.
///
/// # Errors
/// [`Error`]; [`Error::NotDelivered`] where peerd answers another state.
pub async fn deliver(
    connection: &mut Connection,
    send: control::Send,
) -> Result<SentAnswer, Error> {
    let wait = send.wait;
    let sent = connection.call(send).await?;
    let reached = match (wait, sent.state) {
        (_, MessageState::Delivered) | (WaitUntil::Queued, MessageState::Queued) => true,
        (_, MessageState::Expired | MessageState::Rejected | MessageState::Failed)
        | (WaitUntil::Delivered, MessageState::Queued) => false,
    };
    if reached { Ok(sent) } else { Err(Error::NotDelivered(Box::new(sent))) }
}
