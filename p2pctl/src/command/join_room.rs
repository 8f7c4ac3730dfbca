//! `join-room`: becomes a member of a room.

use std::io::{self, IsTerminal};

use p2pchat_host::password::PasswordOptions;
use peerd_proto::control;
use registryd_proto::{Code, RoomName};

use crate::{client::ClientError, context::Context, error::Error, exit::Exit, password};

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The room
    #[arg(value_name = "ROOM")]
    pub room: RoomName,
    /// Where the room's password comes from, if it has one.
    #[command(flatten)]
    pub password: PasswordOptions,
}

/// Carries the verb out. Only who is asked for a password on a terminal is prompted, and only after the
/// room said that it has one.
///
/// # Errors
/// [`Error`].
pub async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Error> {
    const LABEL: &str = "Password of the room";
    let given = args.password.is_given();
    let password =
        if given { Some(password::of_room(&args.password, LABEL, false)?) } else { None };
    let first = context.call(control::JoinRoom { room: args.room.clone(), password }).await;
    let wants_password = |error: &Error| error.code() == Code::BadCredentials;
    let answer = match first {
        Err(error) if wants_password(&error) && !given && io::stdin().is_terminal() => {
            let password = Some(password::of_room(&args.password, LABEL, false)?);
            context.call(control::JoinRoom { room: args.room, password }).await?
        }
        Err(Error::Client(ClientError::Refused(mut refused)))
            if refused.data.code == Code::BadCredentials && !given =>
        {
            refused.message = "the room has a password".to_owned();
            refused.data.hint =
                Some("give it by --password-stdin or --password-file FILE".to_owned());
            return Err(ClientError::Refused(refused).into());
        }
        answer => answer?,
    };
    context.output.answer(&answer)?;
    Ok(Exit::Done)
}
