//! `leave-room`: leaves a room, or declines an invitation to one.

use peerd_proto::control;
use registryd_proto::RoomName;

use crate::{context::Context, error::Error, exit::Exit};

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The room
    #[arg(value_name = "ROOM")]
    pub room: RoomName,
}

/// Carries the verb out.
///
/// # Errors
/// [`Error`].
pub async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Error> {
    let answer = context.call(control::LeaveRoom { room: args.room }).await?;
    // The room as it was is for scripts: to people its members would look like those of a room of ours.
    if context.output.is_json() {
        context.output.answer(&answer)?;
    } else if answer.members.is_empty() {
        context.output.text(&format!("declined the invitation to #{}\n", answer.room))?;
    } else {
        context.output.text(&format!("left #{}\n", answer.room))?;
    }
    Ok(Exit::Done)
}
