//! Holds a finished run of a whole world against what its users may rely on.
//!
//! Two kinds of device are excused from some of it. One whose disk went back to a backup lost what it alone
//! knew. One that is not the user's device in the end (superseded, logged out, down) delivers nothing more.

mod forgotten;
mod messages;
mod standing;

use peerd::core::{CommandId, memory::Gap};
use peerd_proto::wire::MessageId;
use registryd_proto::RoomName;

use super::run::Run;
use crate::counts::Messages;

/// Something that a user could not rely on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// A core panicked.
    Panicked,
    /// A write left a gap on disk.
    Gap(Gap),
    /// A command had no reply, or several.
    Replies {
        /// Which.
        command: CommandId,
        /// Its verb.
        verb: &'static str,
        /// At which device.
        node: usize,
        /// How many.
        replies: usize,
    },
    /// P1: accepted, and not with somebody who should have it.
    Lost {
        /// From which device.
        author: usize,
        /// Which user lacks it.
        user: usize,
        /// Which.
        id: MessageId,
    },
    /// A room has it in part.
    HalfSent {
        /// Which member has it.
        has: usize,
        /// Which has not.
        lacks: usize,
        /// Which.
        id: MessageId,
    },
    /// P2: shown twice.
    ShownTwice {
        /// At which device.
        at: usize,
        /// Which.
        id: MessageId,
    },
    /// P3: shown before an older one of its author.
    Order {
        /// At which device.
        at: usize,
        /// Which.
        id: MessageId,
    },
    /// P4: never sent so, or not to this user.
    Forged {
        /// At which device.
        at: usize,
        /// Which.
        id: MessageId,
    },
    /// P5: told as delivered, and a recipient does not have it.
    FalseDelivered {
        /// From which device.
        author: usize,
        /// Which user lacks it.
        user: usize,
        /// Which.
        id: MessageId,
    },
    /// P6: still waiting.
    Pending {
        /// From which device.
        author: usize,
        /// Which.
        id: MessageId,
    },
    /// P7: shown to somebody who was no member.
    Leaked {
        /// At which device.
        at: usize,
        /// Which.
        id: MessageId,
    },
    /// Told as given up, and yet shown.
    GivenUpButShown {
        /// At which device.
        at: usize,
        /// Which.
        id: MessageId,
    },
    /// Two who dialled each other at once each closed the connection that the other kept.
    BothDropped {
        /// One device.
        a: usize,
        /// The other.
        b: usize,
    },
    /// One side of a chat holds it otherwise than the other.
    ChatDiffers {
        /// One user.
        a: usize,
        /// The other.
        b: usize,
        /// What they hold.
        states: String,
    },
    /// Two who are in no chat could not begin one.
    NoChat {
        /// The device that asked.
        from: usize,
        /// The device that was asked.
        to: usize,
        /// What they were told.
        told: String,
    },
    /// A user has no device online, or several, or one stands otherwise than it should.
    Session {
        /// Which user.
        user: usize,
        /// How the devices stand.
        states: String,
    },
    /// The registry takes somebody for here who is not, or the other way.
    Presence {
        /// Whom.
        user: usize,
        /// Whether it is here.
        is_here: bool,
    },
    /// The registry tells that somebody is where only an eavesdropper is.
    Address {
        /// Whom.
        user: usize,
    },
    /// A member holds other rooms, or another list of members, than the registry.
    Room {
        /// Which user.
        user: usize,
        /// Which room.
        room: RoomName,
        /// What differs.
        differs: String,
    },
}

/// Everything that a run broke.
pub fn all(run: &Run) -> Vec<Violation> {
    let mut found: Vec<Violation> = run.machine.gaps.iter().copied().map(Violation::Gap).collect();
    let dropped = run.machine.both_dropped.iter();
    found.extend(dropped.map(|(a, b)| Violation::BothDropped { a: *a, b: *b }));
    replies(run, &mut found);
    messages::check(run, &mut found);
    standing::check(run, &mut found);
    found
}

/// What became of the messages of a run.
pub fn fates(run: &Run, violations: &[Violation]) -> Messages {
    let count = |of: fn(&Violation) -> bool| violations.iter().filter(|v| of(v)).count() as u64;
    let (accepted, shown) = messages::count(run);
    Messages {
        accepted,
        shown,
        lost: count(|v| matches!(v, Violation::Lost { .. } | Violation::FalseDelivered { .. })),
        duplicated: count(|v| matches!(v, Violation::ShownTwice { .. })),
        misordered: count(|v| matches!(v, Violation::Order { .. })),
    }
}

/// Each command has one reply; none if the device crashed meanwhile.
fn replies(run: &Run, found: &mut Vec<Violation>) {
    for (command, (node, start, verb)) in &run.asked {
        let replies = run.machine.told.get(command).map_or(0, Vec::len);
        let device = &run.machine.devices[*node];
        let still_runs = device.core.is_some() && device.starts == *start;
        if replies > 1 || (replies == 0 && still_runs) {
            let (command, node, verb) = (*command, *node, *verb);
            found.push(Violation::Replies { command, verb, node, replies });
        }
    }
}
