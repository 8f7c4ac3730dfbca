//! The verbs, one file each: its arguments, and what it does with them.

pub mod accept;
pub mod ack;
pub mod chat;
pub mod completions;
pub mod contacts;
pub mod create_account;
pub mod create_room;
pub mod delete_account;
pub mod delete_room;
pub mod doctor;
pub mod end;
pub mod history;
pub mod invite;
pub mod join_room;
pub mod kick;
pub mod leave_room;
pub mod listen;
pub mod login;
pub mod logout;
pub mod members;
pub mod outbox;
pub mod passwd;
pub mod policy;
pub mod reject;
pub mod requests;
pub mod rooms;
pub mod search;
pub mod send;
pub mod set_role;
pub mod status;
pub mod trust;
pub mod verify;
pub mod version;
pub mod wait;

use peerd_proto::control::Target;
use registryd_proto::{RoomName, Username};

use crate::{cli::Verb, context::Context, error::Error, exit::Exit};

/// Carries out the verb.
///
/// # Errors
/// [`Error`]: what goes to stderr and decides the exit code.
pub async fn dispatch(verb: Verb, context: &mut Context<'_>) -> Result<Exit, Error> {
    match verb {
        Verb::CreateAccount(args) => create_account::run(args, context).await,
        Verb::Login(args) => login::run(args, context).await,
        Verb::Logout(args) => logout::run(args, context).await,
        Verb::Search(args) => search::run(args, context).await,
        Verb::Chat(args) => chat::run(args, context).await,
        Verb::Accept(args) => accept::run(args, context).await,
        Verb::Reject(args) => reject::run(args, context).await,
        Verb::End(args) => end::run(args, context).await,
        Verb::Requests(args) => requests::run(args, context).await,
        Verb::Send(args) => send::run(args, context).await,
        Verb::Listen(args) => listen::run(args, context).await,
        Verb::Ack(args) => ack::run(args, context).await,
        Verb::History(args) => history::run(args, context).await,
        Verb::CreateRoom(args) => create_room::run(args, context).await,
        Verb::JoinRoom(args) => join_room::run(args, context).await,
        Verb::LeaveRoom(args) => leave_room::run(args, context).await,
        Verb::Rooms(args) => rooms::run(args, context).await,
        Verb::Members(args) => members::run(args, context).await,
        Verb::Invite(args) => invite::run(args, context).await,
        Verb::Kick(args) => kick::run(args, context).await,
        Verb::SetRole(args) => set_role::run(args, context).await,
        Verb::DeleteRoom(args) => delete_room::run(args, context).await,
        Verb::Status(args) => status::run(args, context).await,
        Verb::Wait(args) => wait::run(args, context).await,
        Verb::Contacts(args) => contacts::run(args, context).await,
        Verb::Policy(args) => policy::run(args, context).await,
        Verb::Verify(args) => verify::run(args, context).await,
        Verb::Trust(args) => trust::run(args, context).await,
        Verb::Outbox(args) => outbox::run(args, context).await,
        Verb::Passwd(args) => passwd::run(args, context).await,
        Verb::DeleteAccount(args) => delete_account::run(args, context).await,
        Verb::Doctor(args) => doctor::run(args, context).await,
        Verb::Version(args) => version::run(args, context).await,
        Verb::Completions(args) => completions::run(&args, context),
    }
}

/// The one of both that was given.
fn target(user: Option<Username>, room: Option<RoomName>) -> Result<Target, Error> {
    match (user, room) {
        (Some(user), None) => Ok(Target::User(user)),
        (None, Some(room)) => Ok(Target::Room(room)),
        (None, None) | (Some(_), Some(_)) => Err(Error::Misuse {
            message: "expected either USER or --room ROOM",
            hint: "name a user, or a room by --room",
        }),
    }
}
