//! Tests of replicas against authors and members who keep to nothing: a bench of a few peers, linked by
//! hand, whose frames are encoded, decoded and verified on the way.

mod fork;
mod hostile;
mod settle;

use std::collections::{BTreeSet, VecDeque};

use peerd_proto::{
    control::{Event, EventKind, MessageState, Timestamp},
    wire::{
        Body, Context, ConversationId, Entry, Frame, Have, Header, Kind, MessageId, Position,
        StreamId, VerifiedEntry,
    },
};
use rand::{SeedableRng as _, rngs::StdRng};
use registryd_proto::{Code, Digest, Keypair, PublicKey, Username};

use super::{Ctx, Draft, Events, Gate, Loads, Notice, Replica, Rules, ShownIds, Verdict};
use crate::core::{
    durable::{Conversation, ConversationKind, Write},
    input::{LinkId, Now},
    memory::Disk,
    output::{Effect, Output},
};

/// The link of a member whom the test plays by hand.
const BY_HAND: LinkId = LinkId(99);
/// How long a bench waits for what is held back: longer than every delay of a replica.
const PATIENCE_MS: u64 = 3_000;

fn key(n: usize) -> Keypair {
    Keypair::from_secret(&[u8::try_from(n).expect("few peers") + 1; 32])
}

fn stream(n: u128) -> StreamId {
    StreamId(uuid::Uuid::from_u128(n))
}

fn name(n: usize) -> Username {
    format!("n{n}").parse().expect("a short name")
}

/// Who is a member: nobody listed is a 1:1 conversation of the peers 0 and 1.
struct House {
    members: Vec<PublicKey>,
    /// Those of them who joined behind all that is written: they may read it, and nothing waits for them.
    newcomers: Vec<PublicKey>,
    epoch: u64,
    me: PublicKey,
    /// What becomes of entries of the other one in a 1:1 conversation.
    policy: Verdict,
}

impl Rules for House {
    fn judge(&self, header: &Header) -> Verdict {
        match header.context {
            _ if header.author == self.me => Verdict::Take,
            Context::Room { epoch } if epoch > self.epoch => Verdict::UnknownEpoch,
            _ if self.members.contains(&header.author) => self.policy,
            _ => Verdict::Ignore,
        }
    }

    fn may_read(&self, member: &PublicKey, _: &Header) -> bool {
        self.members.contains(member)
    }

    fn recipients(&self, _: u64) -> Vec<PublicKey> {
        let waits = |member: &PublicKey| *member != self.me && !self.newcomers.contains(member);
        self.members.iter().copied().filter(waits).collect()
    }

    fn is_current(&self, member: &PublicKey) -> bool {
        self.members.contains(member)
    }

    fn epoch(&self) -> u64 {
        self.epoch
    }
}

struct Log {
    head: u64,
}

impl Events for Log {
    fn record(&mut self, now: Now, out: &mut Output, notice: Notice<'_>) -> u64 {
        let kind = match notice {
            Notice::Message(entry) => EventKind::Message {
                from: name(usize::from(u8::MAX)),
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
            Notice::Fork { .. } => {
                EventKind::ForkFound { author: name(usize::from(u8::MAX)), room: None }
            }
        };
        self.head += 1;
        let time = Timestamp::from_ms(now.wall_ms);
        out.writes.push(Write::Event(Event { n: self.head, time, kind }));
        self.head
    }
}

/// One peer: its replica, and a disk that commits at once.
struct Peer {
    key: Keypair,
    replica: Replica,
    rng: StdRng,
    loads: Loads,
    shown: ShownIds,
    log: Log,
    house: House,
    disk: Disk,
    now: Now,
    sent: VecDeque<(LinkId, Frame)>,
}

impl Peer {
    fn new(n: usize, conversation: ConversationId, members: &[PublicKey], epoch: u64) -> Self {
        let key = key(n);
        let me = key.public();
        let mut disk = Disk::default();
        let kind = ConversationKind::Direct { username: name(9), peer_key: me };
        disk.apply(Write::Conversation(Conversation { id: conversation, kind })).expect("a row");
        Self {
            replica: Replica::new(conversation, me),
            rng: StdRng::seed_from_u64(n as u64),
            loads: Loads::default(),
            shown: ShownIds::default(),
            log: Log { head: 0 },
            house: House {
                members: members.to_vec(),
                newcomers: Vec::new(),
                epoch,
                me,
                policy: Verdict::Take,
            },
            disk,
            now: Now { mono_ms: 1_000, wall_ms: 1_795_341_600_000 },
            sent: VecDeque::new(),
            key,
        }
    }

    /// Works on the replica, flushes it and commits.
    fn call<T>(&mut self, work: impl FnOnce(&mut Replica, &mut Ctx<'_>) -> T) -> T {
        let (mut work, mut result) = (Some(work), None);
        self.work(&mut |replica, cx| result = work.take().map(|work| work(replica, cx)));
        result.expect("it is called once")
    }

    fn work(&mut self, work: &mut dyn FnMut(&mut Replica, &mut Ctx<'_>)) {
        let mut out = Output::default();
        let mut cx = Ctx {
            now: self.now,
            key: &self.key,
            rng: &mut self.rng,
            loads: &mut self.loads,
            shown: &mut self.shown,
            out: &mut out,
            rules: &self.house,
            events: &mut self.log,
        };
        work(&mut self.replica, &mut cx);
        self.replica.flush(&mut cx);
        for write in out.writes {
            self.disk.apply(write).expect("no gap");
        }
        for effect in out.effects {
            match effect {
                Effect::Send { link, frame } => self.sent.push_back((link, frame)),
                Effect::Load { load, conversation, author, stream, after_seq, limit } => {
                    let from = (conversation, author, stream);
                    let entries = self.disk.load(&from, after_seq, limit);
                    self.work(&mut |r, cx| r.on_loaded(cx, load, entries.clone()));
                }
                other => panic!("an effect of another part: {other:?}"),
            }
        }
    }

    /// A frame as a link hands it on: decoded from its bytes, its entries verified.
    fn receive(&mut self, link: LinkId, frame: &Frame) {
        let bytes = frame.encode().expect("a frame within its limit");
        let verify = |entry: Entry| entry.verify().expect("honestly signed");
        match Frame::decode(&bytes[4..]).expect("a frame") {
            Frame::Have(have) => {
                self.call(|r, cx| r.on_have(cx, link, &have)).expect("an honest vector");
            }
            Frame::Entries { entries, .. } => self.take(link, entries.into_iter().map(verify)),
            Frame::Fork { a, b } => {
                let (a, b) = (verify(a), verify(b));
                self.call(|r, cx| r.on_fork(cx, &a, &b));
            }
            other => panic!("a frame of another part: {other:?}"),
        }
    }

    fn take(&mut self, link: LinkId, entries: impl IntoIterator<Item = VerifiedEntry>) {
        let entries: Vec<_> = entries.into_iter().collect();
        self.call(|r, cx| r.on_entries(cx, link, entries)).expect("within the limits");
    }

    /// A link with a member, which the test serves: its vector is empty.
    fn meet(&mut self, link: LinkId, member: PublicKey) {
        self.call(|r, _| r.link_up(link, member, Gate::Open));
        let have = self.have(Vec::new());
        self.call(|r, cx| r.on_have(cx, link, &have)).expect("an empty vector");
    }

    /// A whole vector.
    fn have(&self, positions: Vec<Position>) -> Have {
        let conversation = self.replica.conversation();
        let (epoch, exceptions) = (self.house.epoch, Vec::new());
        Have { conversation, epoch, full: true, positions, exceptions }
    }

    fn say(&mut self, id: &str) -> MessageId {
        self.say_until(id, None)
    }

    fn say_until(&mut self, id: &str, expires_ms: Option<u64>) -> MessageId {
        let id: MessageId = id.parse().expect("an id");
        let text = format!("text of {id}");
        let context = self.context();
        let draft = Draft { id: id.clone(), caller_id: true, text, context, expires_ms };
        self.call(|r, cx| r.append(cx, draft)).expect("room for more");
        id
    }

    fn context(&self) -> Context {
        match self.house.epoch {
            0 => Context::Direct { chat: None },
            epoch => Context::Room { epoch },
        }
    }

    fn state(&self, id: &MessageId) -> (MessageState, Option<Code>) {
        let row = self.replica.outgoing(id).expect("a message with an id of its caller");
        (row.state, row.reason)
    }

    fn restart(&mut self) {
        let snapshot = self.disk.snapshot();
        self.shown = ShownIds::restore(&snapshot.shown_ids);
        self.log.head = snapshot.event_head;
        self.loads = Loads::default();
        let conversation = self.replica.conversation();
        let mut all = Replica::restore_all(self.key.public(), &snapshot);
        self.replica = all.remove(&conversation).expect("the one conversation");
    }

    /// What was shown, in order.
    fn texts(&self) -> Vec<&str> {
        let kinds = self.disk.events().iter().map(|event| &event.kind);
        kinds
            .filter_map(|kind| match kind {
                EventKind::Message { body, .. } => Some(body.as_str()),
                _ => None,
            })
            .collect()
    }

    fn forks_told(&self) -> usize {
        let forks = |event: &&Event| matches!(event.kind, EventKind::ForkFound { .. });
        self.disk.events().iter().filter(forks).count()
    }
}

/// A few peers.
struct Bench {
    conversation: ConversationId,
    peers: Vec<Peer>,
    /// The links, both ways.
    links: BTreeSet<(usize, usize)>,
}

impl Bench {
    fn direct() -> Self {
        Self::with(2, 2, 0)
    }

    /// A room of `peers` and of as many members besides, whom tests play by hand.
    fn room(peers: usize, by_hand: usize) -> Self {
        Self::with(peers, peers + by_hand, 1)
    }

    fn with(peers: usize, members: usize, epoch: u64) -> Self {
        let conversation = ConversationId(Digest([7; 32]));
        let members: Vec<PublicKey> = (0..members).map(|n| key(n).public()).collect();
        let peer = |n| Peer::new(n, conversation, &members, epoch);
        Self { conversation, peers: (0..peers).map(peer).collect(), links: BTreeSet::new() }
    }

    fn link(&mut self, a: usize, b: usize) {
        for (at, to) in [(a, b), (b, a)] {
            self.links.insert((at, to));
            let member = self.peers[to].key.public();
            self.peers[at].call(|r, _| r.link_up(LinkId(to as u64), member, Gate::Open));
        }
    }

    fn unlink(&mut self, a: usize, b: usize) {
        for (at, to) in [(a, b), (b, a)] {
            self.links.remove(&(at, to));
            self.peers[at].call(|r, _| r.link_down(LinkId(to as u64)));
        }
    }

    fn restart(&mut self, node: usize) {
        for other in (0..self.peers.len()).filter(|other| *other != node) {
            if self.links.contains(&(node, other)) {
                self.unlink(node, other);
            }
        }
        self.peers[node].restart();
    }

    /// Carries frames until all are quiet and nothing waits for time.
    fn settle(&mut self) {
        for _ in 0..PATIENCE_MS / 50 {
            let mut frames = 0;
            while let Some((from, to, frame)) = self.next_frame() {
                frames += 1;
                assert!(frames < 50_000, "the peers come to no rest");
                self.peers[to].receive(LinkId(from as u64), &frame);
            }
            for peer in &mut self.peers {
                peer.now.mono_ms += 50;
                peer.now.wall_ms += 50;
                peer.call(|r, cx| r.tick(cx));
            }
        }
    }

    fn next_frame(&mut self) -> Option<(usize, usize, Frame)> {
        for from in 0..self.peers.len() {
            while let Some((link, frame)) = self.peers[from].sent.pop_front() {
                let to = usize::try_from(link.0).expect("small");
                if self.links.contains(&(from, to)) {
                    return Some((from, to, frame));
                }
            }
        }
        None
    }

    /// An entry written by hand.
    fn entry(&self, author: usize, at: (u128, u64), previous: Digest, text: &str) -> VerifiedEntry {
        let context = self.peers[0].context();
        self.entry_in(self.conversation, context, author, at, previous, text)
    }

    fn entry_in(
        &self,
        conversation: ConversationId,
        context: Context,
        author: usize,
        (of, seq): (u128, u64),
        previous: Digest,
        text: &str,
    ) -> VerifiedEntry {
        let body = Body { salt: [3; 16], text: text.to_owned() };
        let id = text.replace(' ', "-").parse().expect("an id");
        let key = key(author);
        let header = Header {
            conversation,
            author: key.public(),
            stream: stream(of),
            seq,
            previous,
            origin: None,
            id,
            lamport: seq,
            wall_ms: 1_795_341_600_000,
            context,
            kind: Kind::Text,
            body: body.hash(),
        };
        VerifiedEntry::sign(header, body, &key)
    }

    /// A chain by hand: one entry for each text.
    fn chain(&self, author: usize, of: u128, texts: &[&str]) -> Vec<VerifiedEntry> {
        let mut previous = Digest::default();
        let mut chain = Vec::new();
        for (seq, text) in (1..).zip(texts) {
            let entry = self.entry(author, (of, seq), previous, text);
            previous = entry.hash();
            chain.push(entry);
        }
        chain
    }
}
