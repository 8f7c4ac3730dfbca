//! The whole, with the real programs: what is promised to users and scripts, sentence by sentence.
//!
//! Each test starts the daemons it needs in temporary folders and drives them by p2pctl, as a script would.
//! `originals` holds one test for each failure that earlier programs of this kind fell to.

mod accounts;
mod admin;
mod chats;
mod cron;
mod delivery;
mod events;
mod figures;
mod hostile;
mod impostors;
mod operation;
mod originals;
mod policy;
mod registry;
mod rooms;
mod secrets;
mod terminal;

use harness::{CtlOutput, Peer, Registry};
use registryd_proto::Code;

/// A registry and users that are online there.
fn online<const N: usize>(names: [&str; N]) -> (Registry, [Peer; N]) {
    let registry = Registry::start();
    let peers = names.map(|name| Peer::online(name, &registry));
    (registry, peers)
}

/// As [`online`], where everybody lets everybody write.
fn friends<const N: usize>(names: [&str; N]) -> (Registry, [Peer; N]) {
    let (registry, peers) = online(names);
    for peer in &peers {
        peer.ctl(&["policy", "--default", "allow"]).ok();
    }
    (registry, peers)
}

/// Asserts what `chat --request` answers when it is not yes: the state on stdout, and its exit code.
#[track_caller]
fn assert_answer(output: &CtlOutput, state: &str, code: Code) {
    assert_eq!(output.code, Some(i32::from(code.exit_code())), "{output:#?}");
    assert_eq!(output.object()["state"], state, "{output:#?}");
}

/// The bodies of a history, in order.
fn bodies(history: &[(String, String)]) -> Vec<&str> {
    history.iter().map(|(_, body)| body.as_str()).collect()
}
