//! What can be typed: the global options and the verbs. The arguments of a verb are in its own file.

use std::{path::PathBuf, time::Duration};

use clap::{ColorChoice, Parser, Subcommand};
use p2pchat_host::duration;

use crate::{command::*, socket::Profile};

/// What stands below the help.
const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 internal, 2 usage, 3 peerd not running, 4 not logged in, 5 registry unreachable, \
6 not found, 7 peer offline, 8 rejected, 9 busy, 10 timed out (a message is still queued), 11 untrusted \
key, 12 blocked by policy, 13 conflict, 14 rate limited, 15 partial, 16 superseded, 17 bad credentials, \
18 state in use, 19 version mismatch";

/// Chat between people and scripts, from the shell.
#[derive(Debug, Parser)]
#[command(name = "p2pctl", version, disable_help_subcommand = false, propagate_version = true, after_help = EXIT_CODES)]
pub struct Cli {
    /// The options that every verb has.
    #[command(flatten)]
    pub global: Global,
    /// The verb.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The options that every verb has.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Everywhere")]
pub struct Global {
    /// Which peerd of this user [env: P2P_PROFILE] [default: default]
    #[arg(long, global = true, value_name = "NAME", conflicts_with = "socket")]
    pub profile: Option<Profile>,
    /// The socket of peerd [env: P2P_SOCKET]
    #[arg(long, global = true, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Answer with JSON: one object, or one a line
    #[arg(long, global = true)]
    pub json: bool,
    /// How long to wait: 500ms, 30s, 5m; a bare number is seconds [default: 30s]
    #[arg(long, global = true, value_name = "DURATION", value_parser = duration::parse)]
    pub timeout: Option<Duration>,
    /// Colours in text: auto, always or never
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        hide_default_value = true
    )]
    pub color: ColorChoice,
}

/// What p2pctl can do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Make a new account at a registry
    CreateAccount(create_account::Args),
    /// Come online
    Login(login::Args),
    /// Go offline, until the next login
    Logout(logout::Args),
    /// Look a user up by exact name
    Search(search::Args),
    /// Chat with a user
    Chat(chat::Args),
    /// Say yes to a request
    Accept(accept::Args),
    /// Say no to a request
    Reject(reject::Args),
    /// End a chat, or withdraw a request
    End(end::Args),
    /// List who asks
    Requests(requests::Args),
    /// Send a message; 0 means that it is on the recipient's disk
    Send(send::Args),
    /// Print events as they come
    Listen(listen::Args),
    /// Tell that a named consumer has dealt with all events up to a number
    Ack(ack::Args),
    /// Print the messages of a conversation
    History(history::Args),
    /// Make a new room
    CreateRoom(create_room::Args),
    /// Become a member of a room
    JoinRoom(join_room::Args),
    /// Leave a room, or decline an invitation to it
    LeaveRoom(leave_room::Args),
    /// List our rooms
    Rooms(rooms::Args),
    /// List the members of a room, or of all our rooms
    Members(members::Args),
    /// Let a user join a room
    Invite(invite::Args),
    /// Remove a member from a room
    Kick(kick::Args),
    /// Change what a member may do
    SetRole(set_role::Args),
    /// Delete a room
    DeleteRoom(delete_room::Args),
    /// Tell how peerd is; the exit code is its health
    Status(status::Args),
    /// Wait until something has come true
    Wait(wait::Args),
    /// List the contacts
    Contacts(contacts::Args),
    /// Tell or set what a user may do without a chat
    Policy(policy::Args),
    /// Show the number that both sides can compare
    Verify(verify::Args),
    /// Take the key that a contact shows now
    Trust(trust::Args),
    /// List, cancel or retry messages not yet delivered
    Outbox(outbox::Args),
    /// Change the password
    #[command(after_help = "From stdin or a file: the old password, then the new one, one a line.")]
    Passwd(passwd::Args),
    /// Delete the account at the registry
    DeleteAccount(delete_account::Args),
    /// Check the way from here to the registry
    Doctor(doctor::Args),
    /// Print the completions of a shell
    Completions(completions::Args),
    /// Tell the versions of p2pctl and peerd
    Version(version::Args),
}
