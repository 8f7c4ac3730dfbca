//! `members`: lists the members of a room, or of all our rooms.

use peerd_proto::control;
use registryd_proto::RoomName;

use crate::{context::Context, error::Error, exit::Exit};

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The room; default: all our rooms
    #[arg(value_name = "ROOM")]
    pub room: Option<RoomName>,
}

/// Carries the verb out. With `--json` the members of all rooms are one list of rooms.
///
/// # Errors
/// [`Error`].
pub async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Error> {
    if let Some(room) = args.room {
        return context.simple(control::Members { room }).await;
    }
    if context.output.is_json() {
        return context.simple(control::Rooms {}).await;
    }
    for room in context.call(control::Rooms {}).await?.rooms {
        context.output.answer(&room)?;
    }
    Ok(Exit::Done)
}
