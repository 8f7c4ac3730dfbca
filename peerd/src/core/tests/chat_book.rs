//! Two books of chats over a line that breaks at any time, with other chats in their way.

use std::collections::VecDeque;

use peerd_proto::wire::{ChatFrame, ChatId};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use registryd_proto::Username;

use super::world::name;
use crate::core::{
    Now,
    chat::{ChatBook, Step},
};

struct Line {
    books: [ChatBook; 2],
    queues: [VecDeque<ChatFrame>; 2],
    up: bool,
    now_ms: u64,
    last: u128,
}

fn other(i: usize) -> Username {
    name(["b", "a"][i])
}

impl Line {
    fn now(&self) -> Now {
        Now { mono_ms: self.now_ms, wall_ms: self.now_ms }
    }

    fn id(&mut self) -> ChatId {
        self.last += 1;
        ChatId(uuid::Uuid::from_u128(self.last))
    }

    fn carry(&mut self, i: usize, steps: Vec<Step>) {
        for step in steps {
            if let (Step::Send(frame), true) = (step, self.up) {
                self.queues[1 - i].push_back(frame);
            }
        }
    }

    fn deliver(&mut self, i: usize) -> bool {
        let Some(frame) = self.queues[i].pop_front() else { return false };
        let now = self.now();
        let steps = self.books[i].on_frame(&other(i), i == 0, frame, now);
        self.carry(i, steps);
        true
    }

    fn set_up(&mut self, up: bool) {
        if self.up == up {
            return;
        }
        self.up = up;
        for i in 0..2 {
            self.queues[i].clear();
        }
        for i in 0..2 {
            let steps = match up {
                true => self.books[i].link_up(&other(i)),
                false => self.books[i].link_down(&other(i)),
            };
            self.carry(i, steps);
        }
    }

    /// A chat with somebody else takes the slot, or frees it.
    fn occupy(&mut self, i: usize) {
        let (id, now, third) = (self.id(), self.now(), name("c"));
        let request = ChatFrame::Request { chat: id, ring_ms: 60_000 };
        self.books[i].on_frame(&third, true, request, now);
        if self.books[i].accept(&third, now).is_ok() {
            self.books[i].on_frame(&third, true, ChatFrame::Confirm { chat: id }, now);
        }
    }

    fn step(&mut self, i: usize, what: u32) {
        let (id, now) = (self.id(), self.now());
        let result = match what {
            0 => self.books[i].ask(&other(i), id, 20_000, now),
            1 | 2 => self.books[i].accept(&other(i), now),
            3 => self.books[i].reject(&other(i)),
            4 => self.books[i].end(&other(i)),
            5 => return self.set_up(!self.up),
            6 => return self.occupy(i),
            7 => return drop(self.books[i].end(&name("c"))),
            8 => return self.tick(1_000),
            _ => {
                self.deliver(i);
                return;
            }
        };
        self.carry(i, result.unwrap_or_default());
    }

    fn tick(&mut self, ms: u64) {
        self.now_ms += ms;
        for i in 0..2 {
            let now = self.now();
            for (peer, steps) in self.books[i].tick(now) {
                if peer == other(i) {
                    self.carry(i, steps);
                }
            }
        }
    }

    fn settle(&mut self) {
        for _ in 0..8 {
            while self.deliver(0) || self.deliver(1) {}
            self.tick(0);
        }
    }
}

#[test]
fn both_sides_agree_once_the_line_is_whole_and_slots_are_free() {
    for seed in 0..3_000 {
        let mut rng = StdRng::seed_from_u64(seed);
        let books = [(); 2].map(|()| ChatBook::restore(1, Vec::new()));
        let queues = [VecDeque::new(), VecDeque::new()];
        let mut line = Line { books, queues, up: true, now_ms: 1, last: 0 };
        for _ in 0..40 {
            let (i, what) = (rng.random_range(0..2), rng.random_range(0..14));
            line.step(i, what);
        }
        line.set_up(true);
        line.settle();
        for i in 0..2 {
            let _free = line.books[i].end(&name("c"));
            line.tick(0);
            line.settle();
        }
        line.tick(4_000_000);
        line.settle();
        let [a, b] = [0, 1].map(|i| line.books[i].state(&other(i)));
        assert_eq!(a, b, "seed {seed}");
        assert!(a.is_none() || a == Some(peerd_proto::control::ChatState::Active), "seed {seed}");
    }
}

/// Whether a callee that is killed right behind its acceptance comes back to an active chat: the caller may
/// have been told of one.
#[test]
fn an_acceptance_outlives_the_callee_that_gave_it() {
    for accept_arrives in [true, false] {
        let now = Now { mono_ms: 1_000, wall_ms: 1_000 };
        let [caller, callee] = [other(1), other(0)];
        let id = ChatId(uuid::Uuid::from_u128(1));
        let mut line = Line {
            books: [ChatBook::restore(1, Vec::new()), ChatBook::restore(1, Vec::new())],
            queues: [VecDeque::new(), VecDeque::new()],
            up: true,
            now_ms: now.mono_ms,
            last: 1,
        };
        let steps = line.books[0].ask(&callee, id, 60_000, now).expect("a slot");
        line.carry(0, steps);
        assert!(line.deliver(1), "it rings");
        let steps = line.books[1].accept(&caller, now).expect("a request");
        let rows = steps.iter().filter_map(|step| match step {
            Step::Row(row) => Some(row.clone()),
            _ => None,
        });
        let rows: Vec<_> = rows.collect();
        line.carry(1, steps);
        if accept_arrives {
            while line.deliver(0) {}
        }
        line.up = false;
        let steps = line.books[0].link_down(&callee);
        line.carry(0, steps);
        line.queues = [VecDeque::new(), VecDeque::new()];
        line.books[1] = ChatBook::restore(1, rows);
        line.up = true;
        for (i, peer) in [(0, &callee), (1, &caller)] {
            let steps = line.books[i].link_up(peer);
            line.carry(i, steps);
        }
        while line.deliver(0) || line.deliver(1) {}
        assert_eq!(line.books[0].active(&callee), Some(id), "{accept_arrives}");
        assert_eq!(line.books[1].active(&caller), Some(id), "{accept_arrives}");
    }
}
