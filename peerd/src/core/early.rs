//! Vectors of rooms in which our logs do not know the other side of a link yet. Two members hear of each other
//! at different times, and each tells its whole vector once: so it is kept until our log knows the other.
//!
//! Invariant: what is kept of one link is bounded, and never a part of what was told: a link that told too
//! much goes on, and is made anew once our log knows the other side, which tells its vector again then.

use std::collections::BTreeMap;

use peerd_proto::wire::{
    ConversationId, Exception, ExceptionKind, Goodbye, Have, Position, StreamId,
};
use registryd_proto::PublicKey;

use super::{Core, LinkId};

/// The most rooms, positions and exceptions kept of one link, at about 100 bytes each.
const EARLY_MAX: usize = 4096;

/// What one link told too early.
#[derive(Debug, Default)]
pub(super) struct Early {
    rooms: BTreeMap<ConversationId, Kept>,
    lost: bool,
}

/// What it told of one room: its vector and what changed of it since, as one.
#[derive(Debug, Default)]
struct Kept {
    epoch: u64,
    full: bool,
    positions: BTreeMap<(PublicKey, StreamId), Position>,
    exceptions: BTreeMap<(PublicKey, StreamId, u64), ExceptionKind>,
}

impl Early {
    /// Keeps a vector, or what changed of it. A change to what was not told is nothing, but for its
    /// exceptions: those of a long vector come before it.
    pub(super) fn keep(&mut self, have: &Have) {
        let begun = self.rooms.get(&have.conversation).is_some_and(|kept| kept.full);
        let nothing = !have.full && !begun && have.exceptions.is_empty();
        if nothing || self.lost {
            return;
        }
        let kept = self.rooms.entry(have.conversation).or_default();
        kept.epoch = kept.epoch.max(have.epoch);
        if have.full {
            kept.full = true;
            kept.positions.clear();
        }
        if kept.full {
            let keyed = have.positions.iter().map(|p| ((p.author, p.stream), *p));
            kept.positions.extend(keyed);
        }
        let keyed = have.exceptions.iter().map(|e| ((e.author, e.stream, e.seq), e.kind));
        kept.exceptions.extend(keyed);
        let sizes = self.rooms.values().map(|k| 1 + k.positions.len() + k.exceptions.len());
        if sizes.sum::<usize>() > EARLY_MAX {
            *self = Self { rooms: BTreeMap::new(), lost: true };
        }
    }

    /// What was kept of one room, as one vector.
    pub(super) fn take(&mut self, conversation: &ConversationId) -> Option<Have> {
        let kept = self.rooms.remove(conversation)?;
        let of = |((author, stream, seq), kind)| Exception { author, stream, seq, kind };
        Some(Have {
            conversation: *conversation,
            epoch: kept.epoch,
            full: kept.full,
            positions: kept.positions.into_values().collect(),
            exceptions: kept.exceptions.into_iter().map(of).collect(),
        })
    }

    /// What was kept of all rooms.
    pub(super) fn take_all(&mut self) -> Vec<Have> {
        let rooms: Vec<ConversationId> = self.rooms.keys().copied().collect();
        rooms.iter().filter_map(|room| self.take(room)).collect()
    }

    /// Whether it told more than is kept.
    pub(super) fn is_lost(&self) -> bool {
        self.lost
    }
}

impl Core {
    /// A room's replica has begun with links: gives it what they told before. Of one that told too much,
    /// nothing was kept: it is made anew.
    pub(super) fn take_early(&mut self, links: &[LinkId], conversation: &ConversationId) {
        for link in links {
            let Some(early) = self.links.early(*link) else { continue };
            if early.is_lost() {
                self.close_link(*link, Goodbye::Duplicate);
            } else if let Some(have) = early.take(conversation) {
                self.take_have(*link, &have);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use registryd_proto::Digest;

    use super::*;

    fn room(n: u8) -> ConversationId {
        ConversationId(Digest([n; 32]))
    }

    fn key() -> PublicKey {
        registryd_proto::Keypair::from_secret(&[1; 32]).public()
    }

    fn stream(n: usize) -> StreamId {
        StreamId(uuid::Uuid::from_u128(n as u128))
    }

    fn have(full: bool, streams: std::ops::Range<usize>, seq: u64) -> Have {
        let position =
            |n| Position { author: key(), stream: stream(n), seq, hash: Digest::default() };
        let positions = streams.map(position).collect();
        Have { conversation: room(1), epoch: 1, full, positions, exceptions: Vec::new() }
    }

    fn void(seq: u64) -> Exception {
        Exception { author: key(), stream: stream(0), seq, kind: ExceptionKind::Void }
    }

    #[test]
    fn a_vector_and_its_changes_are_one() {
        let mut early = Early::default();
        early.keep(&have(false, 0..9, 1));
        assert!(early.take(&room(1)).is_none(), "a change to nothing");
        early.keep(&have(true, 0..3, 1));
        for seq in 2..10_000 {
            early.keep(&have(false, 1..2, seq));
        }
        let kept = early.take(&room(1)).expect("kept");
        assert!(kept.full && !early.is_lost());
        let seqs: Vec<u64> = kept.positions.iter().map(|p| p.seq).collect();
        assert_eq!(seqs, [1, 9_999, 1]);
        early.keep(&have(true, 0..3, 1));
        early.keep(&have(true, 5..6, 1));
        assert_eq!(early.take_all()[0].positions.len(), 1, "a whole one begins anew");
    }

    #[test]
    fn exceptions_that_come_before_their_vector_are_kept() {
        let mut early = Early::default();
        let mut first = have(false, 0..0, 1);
        first.exceptions = vec![void(1), void(2)];
        early.keep(&first);
        let mut whole = have(true, 0..1, 3);
        whole.exceptions = vec![void(3)];
        early.keep(&whole);
        assert_eq!(early.take(&room(1)).expect("kept").exceptions, [void(1), void(2), void(3)]);
    }

    #[test]
    fn what_is_kept_is_bounded_and_never_a_part() {
        let mut early = Early::default();
        early.keep(&have(true, 0..EARLY_MAX, 1));
        assert!(early.is_lost() && early.take_all().is_empty());
        early.keep(&have(true, 0..1, 1));
        assert!(early.take_all().is_empty());
        let mut early = Early::default();
        for n in 0..=u8::MAX {
            for m in 0..=u8::MAX {
                let conversation = ConversationId(Digest(
                    [[n; 16], [m; 16]].concat()[..].try_into().expect("32 bytes"),
                ));
                early.keep(&Have { conversation, ..have(true, 0..0, 1) });
            }
        }
        assert!(early.is_lost() && early.take_all().is_empty());
    }
}
