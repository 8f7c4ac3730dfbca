//! `registryd admin`: what an operator can type, and how each verb is carried out over the socket.

use std::{path::Path, time::Duration};

use clap::Subcommand;
use p2pchat_host::{
    duration,
    password::{PasswordError, PasswordOptions, Prompt},
};
use registryd_proto::{Code, Password, RoomName, Username};
use serde::de::DeserializeOwned;
use serde_json::{Value, value::RawValue};

use super::{
    client::Client,
    error::CliError,
    show::{self, Show, Text},
};
use crate::{
    admin::{
        answer,
        request::{self, PAGE_MAX, Verb},
    },
    output::Output,
};

/// The arguments of `admin`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// What it is about.
    #[command(subcommand)]
    noun: Noun,
}

/// What an operator deals with.
#[derive(Debug, Clone, Subcommand)]
enum Noun {
    /// Accounts
    #[command(subcommand)]
    Users(Users),
    /// Sessions: who is logged in
    #[command(subcommand)]
    Sessions(Sessions),
    /// Rooms
    #[command(subcommand)]
    Rooms(Rooms),
    /// Invitations to make an account with, where registration is by invite
    #[command(subcommand)]
    Invites(Invites),
    /// What the registry has counted since it started
    Stats,
    /// Whether the registry can do its work; the exit code tells as well
    Health,
}

/// Verbs of accounts.
#[derive(Debug, Clone, Subcommand)]
enum Users {
    /// Make an account; its device comes with the first login
    Add(WithPassword),
    /// End the session of an account and let nobody in to it
    Disable(UserName),
    /// Let the owner of a disabled account in again
    Enable(UserName),
    /// Replace the password of an account; its session goes on
    Passwd(WithPassword),
    /// Delete an account and its rooms; the name stays taken
    Delete(UserName),
    /// List all accounts, by name
    List(UserPage),
    /// Show an account
    Show(UserName),
    /// Refused: says why
    Rename(Rename),
}

/// Verbs of sessions.
#[derive(Debug, Clone, Subcommand)]
enum Sessions {
    /// List all sessions, those of the oldest accounts first
    List(UserPage),
    /// End the session of an account: its device is logged out
    Kick(UserName),
}

/// Verbs of rooms.
#[derive(Debug, Clone, Subcommand)]
enum Rooms {
    /// List all rooms, by name
    List(RoomPage),
    /// Show a room and its members
    Show(RoomArg),
    /// Delete a room; its members are told that its owner did
    Delete(RoomArg),
}

/// Verbs of invitations.
#[derive(Debug, Clone, Subcommand)]
enum Invites {
    /// Make an invitation; its code is told once
    Create(NewInvite),
    /// List all invitations, without their codes
    List(InvitePage),
    /// Take an invitation back; accounts that it made stay
    Revoke(InviteArg),
}

#[derive(Debug, Clone, clap::Args)]
struct UserName {
    /// The account's exact name
    #[arg(value_name = "USER")]
    username: Username,
}

#[derive(Debug, Clone, clap::Args)]
struct WithPassword {
    /// The account's exact name
    #[arg(value_name = "USER")]
    username: Username,
    #[command(flatten)]
    password: PasswordOptions,
}

#[derive(Debug, Clone, clap::Args)]
struct Rename {
    /// The account's name
    #[arg(value_name = "USER")]
    username: Username,
    /// The name wanted
    #[arg(value_name = "NEW")]
    new: Username,
}

#[derive(Debug, Clone, clap::Args)]
struct UserPage {
    /// Begin after this name
    #[arg(long, value_name = "USER")]
    after: Option<Username>,
    /// So many at most
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

#[derive(Debug, Clone, clap::Args)]
struct RoomPage {
    /// Begin after this name
    #[arg(long, value_name = "ROOM")]
    after: Option<RoomName>,
    /// So many at most
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

#[derive(Debug, Clone, clap::Args)]
struct InvitePage {
    /// Begin after this number
    #[arg(long, value_name = "ID")]
    after: Option<u64>,
    /// So many at most
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

#[derive(Debug, Clone, clap::Args)]
struct RoomArg {
    /// The room's exact name
    #[arg(value_name = "ROOM")]
    room: RoomName,
}

#[derive(Debug, Clone, clap::Args)]
struct NewInvite {
    /// How many accounts it makes
    #[arg(long, value_name = "N", default_value_t = 1)]
    uses: u32,
    /// How long it holds: 12h, 7d; a bare number is seconds
    #[arg(long, value_name = "DURATION", default_value = "7d", value_parser = duration::parse)]
    expires: Duration,
    /// For whom it is, for the list
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    note: String,
}

#[derive(Debug, Clone, clap::Args)]
struct InviteArg {
    /// The invitation's number, as in the list
    #[arg(value_name = "ID")]
    id: u64,
}

/// Gets the password of somebody's account, typed twice: a typo would lock its owner out.
fn ask(options: &PasswordOptions, label: &str) -> Result<Password, PasswordError> {
    let [password] = options.read([Prompt { label, twice: true }], None)?;
    Ok(password)
}

/// Carries out a verb at the registryd of a data folder. `Some`: the answer is on stdout and means this.
///
/// # Errors
/// [`CliError`].
pub(crate) fn run(
    args: Args,
    data_dir: &Path,
    output: &mut Output,
) -> Result<Option<Code>, CliError> {
    // What needs no registry is told without one.
    if let Noun::Users(Users::Rename(Rename { username, new })) = args.noun {
        return Err(CliError::Rename { username, new });
    }
    let asked = Asked::of(args.noun)?;
    let mut desk = Desk { client: Client::connect(data_dir)?, output };
    match asked {
        Asked::User(verb) => desk.one::<answer::User>(verb),
        Asked::Session(verb) => desk.one::<answer::Session>(verb),
        Asked::Room(verb) => desk.one::<answer::Room>(verb),
        Asked::Invite(verb) => desk.one::<answer::Invite>(verb),
        Asked::Users(page) => {
            desk.list::<answer::Users, _>(page.after, page.limit, Verb::UsersList)
        }
        Asked::Sessions(page) => {
            desk.list::<answer::Sessions, _>(page.after, page.limit, Verb::SessionsList)
        }
        Asked::Rooms(page) => {
            desk.list::<answer::Rooms, _>(page.after, page.limit, Verb::RoomsList)
        }
        Asked::Invites(page) => {
            desk.list::<answer::Invites, _>(page.after, page.limit, Verb::InvitesList)
        }
        Asked::Stats => desk.one::<show::Figures>(Verb::Stats),
        Asked::Health => desk.health(),
    }
}

/// What was typed, by the answer that it gets.
enum Asked {
    User(Verb),
    Session(Verb),
    Room(Verb),
    Invite(Verb),
    Users(UserPage),
    Sessions(UserPage),
    Rooms(RoomPage),
    Invites(InvitePage),
    Stats,
    Health,
}

impl Asked {
    /// Asks for passwords where they are needed: before anything is sent.
    fn of(noun: Noun) -> Result<Self, CliError> {
        let user = |UserName { username }| request::User { username };
        let room = |RoomArg { room }| request::Room { room };
        Ok(match noun {
            Noun::Users(Users::Add(WithPassword { username, password })) => {
                let password = ask(&password, "Password of the account")?;
                Self::User(Verb::UsersAdd { username, password })
            }
            Noun::Users(Users::Passwd(WithPassword { username, password })) => {
                let password = ask(&password, "New password of the account")?;
                Self::User(Verb::UsersPasswd { username, password })
            }
            Noun::Users(Users::Rename(Rename { username, new })) => {
                return Err(CliError::Rename { username, new });
            }
            Noun::Users(Users::Disable(name)) => Self::User(Verb::UsersDisable(user(name))),
            Noun::Users(Users::Enable(name)) => Self::User(Verb::UsersEnable(user(name))),
            Noun::Users(Users::Delete(name)) => Self::User(Verb::UsersDelete(user(name))),
            Noun::Users(Users::Show(name)) => Self::User(Verb::UsersShow(user(name))),
            Noun::Users(Users::List(page)) => Self::Users(page),
            Noun::Sessions(Sessions::List(page)) => Self::Sessions(page),
            Noun::Sessions(Sessions::Kick(name)) => Self::Session(Verb::SessionsKick(user(name))),
            Noun::Rooms(Rooms::List(page)) => Self::Rooms(page),
            Noun::Rooms(Rooms::Show(name)) => Self::Room(Verb::RoomsShow(room(name))),
            Noun::Rooms(Rooms::Delete(name)) => Self::Room(Verb::RoomsDelete(room(name))),
            Noun::Invites(Invites::Create(NewInvite { uses, expires, note })) => {
                let expires_ms = duration::as_ms(expires);
                Self::Invite(Verb::InvitesCreate { uses, expires_ms, note })
            }
            Noun::Invites(Invites::List(page)) => Self::Invites(page),
            Noun::Invites(Invites::Revoke(InviteArg { id })) => {
                Self::Invite(Verb::InvitesRevoke { id })
            }
            Noun::Stats => Self::Stats,
            Noun::Health => Self::Health,
        })
    }
}

/// A list's page.
trait Paged {
    type Key;
    /// How many items it has.
    fn len(&self) -> usize;
    /// What the page after it begins with.
    fn next(self) -> Option<Self::Key>;
}

macro_rules! paged {
    ($($page:ty, $items:ident, $key:ty;)*) => {$(
        impl Paged for $page {
            type Key = $key;
            fn len(&self) -> usize {
                self.$items.len()
            }
            fn next(self) -> Option<$key> {
                self.next
            }
        }
    )*};
}

paged! {
    answer::Users, users, Username;
    answer::Sessions, sessions, Username;
    answer::Rooms, rooms, RoomName;
    answer::Invites, invites, u64;
}

/// Where an operator asks and is answered.
struct Desk<'a> {
    client: Client,
    output: &'a mut Output,
}

impl Desk<'_> {
    fn one<T: Show + DeserializeOwned>(&mut self, verb: Verb) -> Result<Option<Code>, CliError> {
        let json = self.client.ask(verb)?;
        let answer: T = read(&json)?;
        self.print(&json, &answer, &mut Text::default())?;
        Ok(None)
    }

    /// All pages, or as much of them as was asked for.
    fn list<T, K>(
        &mut self,
        mut after: Option<K>,
        limit: Option<u64>,
        verb: impl Fn(request::Page<K>) -> Verb,
    ) -> Result<Option<Code>, CliError>
    where
        T: Show + Paged<Key = K> + DeserializeOwned,
    {
        let mut left = limit.unwrap_or(u64::MAX);
        let mut text = Text::default();
        loop {
            let limit = u32::try_from(left).unwrap_or(PAGE_MAX).min(PAGE_MAX);
            let json = self.client.ask(verb(request::Page { after, limit }))?;
            let page: T = read(&json)?;
            self.print(&json, &page, &mut text)?;
            left = left.saturating_sub(page.len() as u64);
            after = page.next();
            if after.is_none() || left == 0 || self.output.is_closed() {
                return Ok(None);
            }
        }
    }

    fn health(&mut self) -> Result<Option<Code>, CliError> {
        let json = self.client.ask(Verb::Health)?;
        let figures: show::Figures = read(&json)?;
        self.print(&json, &figures, &mut Text::default())?;
        let healthy = figures.0.get("healthy").and_then(Value::as_bool).unwrap_or(false);
        Ok((!healthy).then_some(Code::Internal))
    }

    fn print(
        &mut self,
        json: &RawValue,
        answer: &impl Show,
        text: &mut Text,
    ) -> Result<(), CliError> {
        if self.output.is_json() {
            return self.output.json_line(json.get());
        }
        answer.show(text);
        self.output.text(&text.take())
    }
}

fn read<T: DeserializeOwned>(json: &RawValue) -> Result<T, CliError> {
    serde_json::from_str(json.get()).map_err(CliError::Answer)
}
