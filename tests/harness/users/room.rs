//! Rooms that everybody is in before anybody talks.

use p2pchat_history::Record;

use super::recorder::Recorder;
use crate::{
    peer::Peer,
    wait::{DEADLINE, eventually},
};

/// The first of `members` makes the room, the others join; returns the epoch that all know once all are
/// linked, and writes it down.
pub(super) fn create(name: &str, members: &[usize], peers: &[Peer], recorder: &Recorder) -> u64 {
    let (owner, others) = members.split_first().expect("a room has an owner");
    peers[*owner].ctl(&["create-room", name, "--access", "open"]).ok();
    for member in others {
        peers[*member].ctl(&["join-room", name]).ok();
    }
    let mut newest = 0;
    for member in members {
        let peer = &peers[*member];
        newest = eventually(&format!("{} sees all of {name}", peer.name()), 2 * DEADLINE, || {
            let answer = peer.ctl(&["members", name]).ok();
            let list = answer["members"].as_array()?;
            let linked = list.iter().all(|m| m["link"] == "connected");
            (linked && list.len() == members.len()).then(|| answer["epoch"].as_u64()).flatten()
        });
    }
    let members = members.iter().map(|m| peers[*m].name().to_owned()).collect();
    let (at_ms, room) = (recorder.now_ms(), name.to_owned());
    recorder.push(Record::Epoch { at_ms, room, epoch: newest, members, history_for_all: false });
    newest
}
