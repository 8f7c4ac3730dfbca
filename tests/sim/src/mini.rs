//! A node that is nothing but one replica: dials, links, gates and a membership oracle around it.

use std::collections::{BTreeMap, BTreeSet};

use peerd::core::{
    durable::{Conversation, ConversationKind, Snapshot, Write},
    input::{Inbound, Input, LinkId, LinkKind, Now},
    output::{Effect, Output},
    replica::{Ctx, Draft, Events, Gate, Loads, Notice, Replica, Rules, ShownIds, Verdict},
};
use peerd_proto::{
    control::{Event, EventKind, MessageState, Timestamp},
    wire::{Context, Frame, Goodbye, Header, MessageId, Standing},
};
use rand::{SeedableRng as _, rngs::StdRng};
use registryd_proto::{Code, PublicKey};

use crate::{Host, plan::Plan};

/// How long a dial may take.
const DIAL_TIMEOUT_MS: u64 = 3_000;
/// How long to wait between dials of one node.
const REDIAL_MS: u64 = 1_000;

/// What a user does at a replica.
#[derive(Debug, Clone)]
pub enum Act {
    /// Sends a message.
    Say {
        /// Its id.
        id: MessageId,
        /// Its text.
        text: String,
        /// When it expires.
        expires_in_ms: Option<u64>,
    },
    /// Cancels one.
    GiveUp {
        /// Which.
        id: MessageId,
    },
    /// Takes entries of the other side, or not (1:1).
    Allow(bool),
    /// Learns the newest epoch (room).
    Learn,
}

/// One node.
pub struct Mini {
    me: usize,
    replica: Replica,
    rng: StdRng,
    loads: Loads,
    shown: ShownIds,
    log: Log,
    allow: bool,
    epoch: u64,
    links: BTreeMap<LinkId, usize>,
    dial_at: BTreeMap<usize, u64>,
    dial_ms: u64,
}

/// The event log of a node.
struct Log {
    head: u64,
    names: BTreeMap<PublicKey, usize>,
}

impl Events for Log {
    fn record(&mut self, now: Now, out: &mut Output, notice: Notice<'_>) -> u64 {
        let kind = match notice {
            Notice::Message(entry) => EventKind::Message {
                from: Plan::name(self.names[&entry.header().author]),
                room: None,
                id: entry.header().id.clone(),
                body: entry.body().map(|body| body.text.clone()).unwrap_or_default(),
                sent: Timestamp::from_ms(entry.header().wall_ms),
            },
            Notice::Delivered(row, _) => {
                EventKind::Delivered { to: None, room: None, id: row.id.clone() }
            }
            Notice::Failed(row, _) => EventKind::Failed {
                to: None,
                room: None,
                id: row.id.clone(),
                code: row.reason.unwrap_or(Code::Internal),
            },
            Notice::Fork { author } => {
                EventKind::ForkFound { author: Plan::name(self.names[&author]), room: None }
            }
        };
        self.head += 1;
        out.writes.push(Write::Event(Event {
            n: self.head,
            time: Timestamp::from_ms(now.wall_ms),
            kind,
        }));
        self.head
    }
}

/// The rules of a node by what it knows.
struct MiniRules<'a> {
    plan: &'a Plan,
    me: usize,
    allow: bool,
    epoch: u64,
}

impl Rules for MiniRules<'_> {
    fn judge(&self, header: &Header) -> Verdict {
        let Some(author) = self.plan.node(&header.author) else { return Verdict::Ignore };
        match header.context {
            Context::Direct { .. } if self.plan.is_direct(self.me) => {
                match self.allow || author == self.me {
                    true => Verdict::Take,
                    false => Verdict::Ignore,
                }
            }
            Context::Room { epoch } if epoch > self.epoch => Verdict::UnknownEpoch,
            Context::Room { epoch } if self.plan.was_member(author, epoch) => Verdict::Take,
            _ => Verdict::Ignore,
        }
    }

    fn may_read(&self, member: &PublicKey, header: &Header) -> bool {
        let Some(member) = self.plan.node(member) else { return false };
        match header.context {
            Context::Direct { .. } => true,
            Context::Room { epoch } => {
                self.plan.was_member(member, epoch)
                    || (self.plan.history_all && self.plan.was_member(member, self.epoch))
            }
        }
    }

    fn recipients(&self, epoch: u64) -> Vec<PublicKey> {
        let nodes = self.plan.group(self.me).nodes.clone();
        nodes
            .filter(|node| *node != self.me && self.plan.was_member(*node, epoch))
            .map(|node| self.plan.public(node))
            .collect()
    }

    fn is_current(&self, member: &PublicKey) -> bool {
        self.plan.node(member).is_some_and(|node| self.plan.was_member(node, self.epoch))
    }

    fn epoch(&self) -> u64 {
        self.epoch
    }
}

impl Mini {
    /// Calls the replica and flushes it.
    fn with<T>(
        &mut self,
        plan: &Plan,
        now: Now,
        out: &mut Output,
        call: impl FnOnce(&mut Replica, &mut Ctx<'_>) -> T,
    ) -> T {
        let rules = MiniRules { plan, me: self.me, allow: self.allow, epoch: self.epoch };
        let mut cx = Ctx {
            now,
            key: plan.key(self.me),
            rng: &mut self.rng,
            loads: &mut self.loads,
            shown: &mut self.shown,
            out,
            rules: &rules,
            events: &mut self.log,
        };
        let result = call(&mut self.replica, &mut cx);
        self.replica.flush(&mut cx);
        result
    }

    fn learn(&mut self, plan: &Plan, now: Now, out: &mut Output, epoch: u64) {
        let epoch = epoch.min(plan.epoch(self.me));
        if epoch <= self.epoch {
            return;
        }
        self.epoch = epoch;
        plan.known[self.me].set(epoch);
        let gone: Vec<LinkId> =
            self.links.iter().filter(|(_, n)| !self.welcomes(plan, **n)).map(|(l, _)| *l).collect();
        for link in gone {
            self.links.remove(&link);
            self.replica.link_down(link);
            out.effects.push(Effect::Close { link, goodbye: Goodbye::NotWelcome });
        }
        self.with(plan, now, out, |replica, cx| {
            replica.on_membership(cx);
            replica.announce_full();
        });
    }

    /// Whether a link with a node is kept: both are members by the newest epoch known here.
    fn welcomes(&self, plan: &Plan, node: usize) -> bool {
        let member = |node| plan.was_member(node, self.epoch);
        plan.link_anyone || (member(node) && member(self.me))
    }

    fn link_up(&mut self, plan: &Plan, now: Now, out: &mut Output, link: LinkId, node: usize) {
        if !self.welcomes(plan, node) {
            out.effects.push(Effect::Close { link, goodbye: Goodbye::NotWelcome });
            return;
        }
        self.links.insert(link, node);
        let gate = if plan.is_direct(self.me) { Gate::Closed } else { Gate::Open };
        self.replica.link_up(link, plan.public(node), gate);
        if plan.is_direct(self.me) {
            out.effects.push(Effect::Send { link, frame: Frame::Standing(self.standing()) });
        }
        self.with(plan, now, out, |_, _| ());
    }

    fn standing(&self) -> Standing {
        if self.allow { Standing::Allow } else { Standing::Ask }
    }

    fn frame(&mut self, plan: &Plan, now: Now, out: &mut Output, link: LinkId, frame: Inbound) {
        if !self.links.contains_key(&link) {
            return;
        }
        match frame {
            Inbound::Other(Frame::Have(have)) => {
                self.learn(plan, now, out, have.epoch);
                let kept = self.with(plan, now, out, |r, cx| r.on_have(cx, link, &have));
                assert_eq!(kept, Ok(()), "an honest vector");
            }
            Inbound::Entries { entries, .. } => {
                let received = self.with(plan, now, out, |r, cx| r.on_entries(cx, link, entries));
                let received = received.expect("an honest frame");
                if let Some(epoch) = received.unknown_epoch {
                    self.learn(plan, now, out, epoch);
                }
            }
            Inbound::Fork { a, b } => self.with(plan, now, out, |r, cx| r.on_fork(cx, &a, &b)),
            Inbound::Other(Frame::Standing(standing)) => {
                let open = standing == Standing::Allow;
                let gate = if open { Gate::Open } else { Gate::Closed };
                self.with(plan, now, out, |r, _| r.set_gate(link, gate));
            }
            Inbound::Other(_) => {}
        }
    }

    fn dial(&mut self, plan: &Plan, now: Now, out: &mut Output) {
        if now.mono_ms < self.dial_ms {
            return;
        }
        self.dial_ms = now.mono_ms + REDIAL_MS;
        let linked: BTreeSet<usize> = self.links.values().copied().collect();
        let nodes = plan.group(self.me).nodes.clone();
        for node in nodes.filter(|node| *node != self.me && !linked.contains(node)) {
            let ours = !plan.one_dials || (self.me + node).is_multiple_of(2) == (self.me < node);
            let due = self.dial_at.get(&node).is_none_or(|at| *at <= now.mono_ms);
            if ours && due && self.welcomes(plan, node) {
                self.dial_at.insert(node, now.mono_ms + REDIAL_MS + self.me as u64 % 8 * 100);
                let (kind, key) = (LinkKind::Room, plan.public(node));
                out.effects.push(Effect::Dial {
                    kind,
                    key,
                    addresses: Vec::new(),
                    timeout_ms: DIAL_TIMEOUT_MS,
                });
            }
        }
    }
}

impl Host for Mini {
    type Plan = Plan;
    type Act = Act;

    fn start(plan: &Plan, node: usize, snapshot: &Snapshot, seed: u64, now: Now) -> (Self, Output) {
        let mut out = Output::default();
        let mut snapshot = snapshot.clone();
        if snapshot.conversations.is_empty() {
            let kind = ConversationKind::Direct {
                username: Plan::name(plan.other(node)),
                peer_key: plan.public(plan.other(node)),
            };
            let row = Conversation { id: plan.group(node).conversation, kind };
            snapshot.conversations.push(row.clone());
            out.writes.push(Write::Conversation(row));
        }
        let mut replica = Replica::restore_all(plan.public(node), &snapshot)
            .remove(&plan.group(node).conversation)
            .expect("the one conversation");
        replica.plant(plan.faults);
        let mut mini = Mini {
            me: node,
            replica,
            rng: StdRng::seed_from_u64(seed),
            loads: Loads::default(),
            shown: ShownIds::restore(&snapshot.shown_ids),
            log: Log {
                head: snapshot.event_head,
                names: plan.group(node).nodes.clone().map(|n| (plan.public(n), n)).collect(),
            },
            allow: true,
            epoch: plan.known[node].get(),
            links: BTreeMap::new(),
            dial_at: BTreeMap::new(),
            dial_ms: 0,
        };
        // What a node knows of epochs survives a crash that its consequences did not.
        mini.with(plan, now, &mut out, |replica, cx| replica.on_membership(cx));
        mini.dial(plan, now, &mut out);
        (mini, out)
    }

    fn handle(&mut self, plan: &Plan, now: Now, input: Input) -> Output {
        let mut out = Output::default();
        match input {
            Input::LinkUp { link, key, .. } => {
                if let Some(node) = plan.node(&key) {
                    self.link_up(plan, now, &mut out, link, node);
                }
            }
            Input::LinkFrame { link, frame } => self.frame(plan, now, &mut out, link, frame),
            Input::LinkDown { link } => {
                self.links.remove(&link);
                self.replica.link_down(link);
            }
            Input::Loaded { load, entries } => {
                self.loads.end(load);
                self.with(plan, now, &mut out, |r, cx| r.on_loaded(cx, load, entries));
            }
            Input::Tick => {
                self.dial(plan, now, &mut out);
                self.with(plan, now, &mut out, |r, cx| r.tick(cx));
            }
            _ => {}
        }
        out
    }

    fn act(&mut self, plan: &Plan, now: Now, act: Act) -> Output {
        let mut out = Output::default();
        match act {
            Act::Say { id, text, expires_in_ms } => {
                let context = match plan.is_direct(self.me) {
                    true => Context::Direct { chat: None },
                    false => Context::Room { epoch: self.epoch },
                };
                let expires_ms = expires_in_ms.map(|ms| now.wall_ms + ms);
                let draft = Draft { id, caller_id: false, text, context, expires_ms };
                self.with(plan, now, &mut out, |r, cx| r.append(cx, draft)).expect("room for more");
            }
            Act::GiveUp { id } => {
                let (state, reason) = (MessageState::Failed, Some(Code::Conflict));
                self.with(plan, now, &mut out, |r, cx| r.give_up(cx, &id, state, reason));
            }
            Act::Allow(allow) => {
                self.allow = allow;
                for link in self.links.keys() {
                    let frame = Frame::Standing(self.standing());
                    out.effects.push(Effect::Send { link: *link, frame });
                }
            }
            Act::Learn => self.learn(plan, now, &mut out, plan.epoch(self.me)),
        }
        out
    }

    fn next_wake(&self, now: Now) -> Option<u64> {
        let dial = self.dial_ms.max(now.mono_ms + 1);
        Some(self.replica.next_deadline(now).map_or(dial, |at| at.min(dial)))
    }

    fn node_of(plan: &Plan, _: LinkKind, key: &PublicKey) -> Option<usize> {
        plan.node(key)
    }

    fn key_of(plan: &Plan, _: LinkKind, node: usize) -> PublicKey {
        plan.public(node)
    }

    fn environment(_: &mut Plan, _: usize, _: Effect, _: Now) -> Vec<(usize, u64, Input)> {
        Vec::new()
    }
}
