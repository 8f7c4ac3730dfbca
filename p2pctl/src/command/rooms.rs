//! `rooms`: lists our rooms.

use peerd_proto::control::{self, RoomsAnswer};
use registryd_proto::RoomName;

use crate::{context::Context, error::Error, exit::Exit};

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this one
    #[arg(value_name = "ROOM")]
    pub room: Option<RoomName>,
}

/// Carries the verb out.
///
/// # Errors
/// [`Error`].
pub async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Error> {
    let Some(room) = args.room else { return context.simple(control::Rooms {}).await };
    let rooms = vec![context.call(control::Members { room }).await?];
    context.output.answer(&RoomsAnswer { rooms })?;
    Ok(Exit::Done)
}
