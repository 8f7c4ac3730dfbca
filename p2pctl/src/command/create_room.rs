//! `create-room`: makes a new room, with us as its owner.

use clap::ValueEnum;
use p2pchat_host::password::PasswordOptions;
use peerd_proto::control;
use registryd_proto::{Access, HistoryAccess, RoomName};

use crate::{context::Context, error::Error, exit::Exit, password};

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Its name
    #[arg(value_name = "ROOM")]
    pub room: RoomName,
    /// Who may join
    #[arg(long, value_name = "WHO", default_value = "open")]
    pub access: AccessWord,
    /// What a joiner may read of the time before
    #[arg(long, value_name = "WHAT", default_value = "joined")]
    pub history: HistoryWord,
    /// Where the room's password comes from.
    #[command(flatten)]
    pub password: PasswordOptions,
}

/// Who may join, as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AccessWord {
    /// Anybody with an account
    Open,
    /// Who knows the room's password
    Password,
    /// Who was invited
    Invite,
}

/// What a joiner may read, as typed.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum HistoryWord {
    /// Nothing from before
    Joined,
    /// Everything the members still hold
    All,
}

/// Carries the verb out.
///
/// # Errors
/// [`Error`].
pub async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Error> {
    let password = match args.access {
        AccessWord::Password => {
            Some(password::of_room(&args.password, "Password of the room", true)?)
        }
        AccessWord::Open | AccessWord::Invite if args.password.is_given() => {
            return Err(Error::Misuse {
                message: "only a room with --access password has a password",
                hint: "add --access password, or leave the password out",
            });
        }
        AccessWord::Open | AccessWord::Invite => None,
    };
    let access = match args.access {
        AccessWord::Open => Access::Open,
        AccessWord::Password => Access::Password,
        AccessWord::Invite => Access::Invite,
    };
    let history = match args.history {
        HistoryWord::Joined => HistoryAccess::Joined,
        HistoryWord::All => HistoryAccess::All,
    };
    context.simple(control::CreateRoom { room: args.room, access, history, password }).await
}
