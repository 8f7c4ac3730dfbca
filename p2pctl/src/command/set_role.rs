//! `set-role`: changes what a member may do.

use clap::ValueEnum;
use peerd_proto::control;
use registryd_proto::{Role, RoomName, Username};

use crate::{context::Context, error::Error, exit::Exit};

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The room
    #[arg(value_name = "ROOM")]
    pub room: RoomName,
    /// Whose role
    #[arg(value_name = "USER")]
    pub username: Username,
    /// The new role; a new owner takes the place of the old one
    pub role: RoleWord,
}

/// A role, as typed.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum RoleWord {
    /// Reads and writes
    Member,
    /// Invites, and kicks members
    Moderator,
    /// May do all
    Owner,
}

/// Carries the verb out.
///
/// # Errors
/// [`Error`].
pub async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Error> {
    let role = match args.role {
        RoleWord::Member => Role::Member,
        RoleWord::Moderator => Role::Moderator,
        RoleWord::Owner => Role::Owner,
    };
    context.simple(control::SetRole { room: args.room, username: args.username, role }).await
}
