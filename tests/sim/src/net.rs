//! Connections between nodes: each direction keeps its order; a connection that breaks loses what is under
//! way; a cut direction stalls what is sent until it heals or the connection times out.

use std::collections::{BTreeMap, BTreeSet};

use peerd::core::input::LinkId;
use peerd_proto::wire::Frame;

/// One end of a connection.
pub type End = (usize, LinkId);

/// A frame on its way, and when it arrives.
#[derive(Debug)]
pub struct Passage {
    /// The connection.
    pub connection: u64,
    /// Where it arrives.
    pub to: End,
    /// When, in virtual milliseconds.
    pub at_ms: u64,
    /// What.
    pub frame: Frame,
}

#[derive(Debug)]
struct Connection {
    ends: [End; 2],
    /// When the last frame from each end arrives at the other: none overtakes it.
    last_ms: [u64; 2],
    stalled: [Vec<Frame>; 2],
}

/// All connections.
#[derive(Debug, Default)]
pub struct Net {
    connections: BTreeMap<u64, Connection>,
    of: BTreeMap<End, u64>,
    cut: BTreeSet<(usize, usize)>,
    last: u64,
}

impl Net {
    /// Whether a node reaches another and is reached by it.
    pub fn reaches(&self, a: usize, b: usize) -> bool {
        !self.cut.contains(&(a, b)) && !self.cut.contains(&(b, a))
    }

    /// Connects two nodes. Gives the connection and both ends.
    pub fn connect(&mut self, a: usize, b: usize) -> (u64, [End; 2]) {
        self.last += 1;
        let ends = [(a, LinkId(self.last * 2)), (b, LinkId(self.last * 2 + 1))];
        let stalled = [Vec::new(), Vec::new()];
        self.connections.insert(self.last, Connection { ends, last_ms: [0; 2], stalled });
        for end in ends {
            self.of.insert(end, self.last);
        }
        (self.last, ends)
    }

    /// Sends a frame that would take `delay_ms`. `None`: the connection is gone, or stalls.
    pub fn send(&mut self, from: End, frame: Frame, now_ms: u64, delay_ms: u64) -> Option<Passage> {
        let id = *self.of.get(&from)?;
        let connection = self.connections.get_mut(&id)?;
        let side = usize::from(connection.ends[1] == from);
        let to = connection.ends[1 - side];
        if self.cut.contains(&(from.0, to.0)) || !connection.stalled[side].is_empty() {
            connection.stalled[side].push(frame);
            return None;
        }
        let at_ms = connection.last_ms[side].max(now_ms + delay_ms);
        connection.last_ms[side] = at_ms;
        Some(Passage { connection: id, to, at_ms, frame })
    }

    /// Whether a frame that was under way still arrives.
    pub fn is_up(&self, connection: u64) -> bool {
        self.connections.contains_key(&connection)
    }

    /// Breaks a connection: what is under way is lost. Gives its ends.
    pub fn break_off(&mut self, connection: u64) -> Option<[End; 2]> {
        let gone = self.connections.remove(&connection)?;
        for end in gone.ends {
            self.of.remove(&end);
        }
        Some(gone.ends)
    }

    /// The connection of an end.
    pub fn connection_of(&self, end: End) -> Option<u64> {
        self.of.get(&end).copied()
    }

    /// The connections of a node.
    pub fn of_node(&self, node: usize) -> Vec<u64> {
        self.of.range((node, LinkId(0))..=(node, LinkId(u64::MAX))).map(|(_, id)| *id).collect()
    }

    /// All connections.
    pub fn all(&self) -> Vec<u64> {
        self.connections.keys().copied().collect()
    }

    /// Cuts one direction.
    pub fn cut(&mut self, from: usize, to: usize) {
        self.cut.insert((from, to));
    }

    /// Whether a connection crosses a cut, so that it times out if that lasts.
    pub fn is_cut(&self, connection: u64) -> bool {
        self.connections.get(&connection).is_some_and(|c| !self.reaches(c.ends[0].0, c.ends[1].0))
    }

    /// Heals all cuts. What stalled goes on, in order.
    pub fn heal(&mut self, now_ms: u64, delay_ms: u64) -> Vec<Passage> {
        self.cut.clear();
        let mut passages = Vec::new();
        for (id, connection) in &mut self.connections {
            for side in 0..2 {
                let to = connection.ends[1 - side];
                let at_ms = connection.last_ms[side].max(now_ms + delay_ms);
                for frame in std::mem::take(&mut connection.stalled[side]) {
                    connection.last_ms[side] = at_ms;
                    passages.push(Passage { connection: *id, to, at_ms, frame });
                }
            }
        }
        passages
    }
}
