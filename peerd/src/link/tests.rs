//! Real endpoints on loopback.

use std::{net::Ipv4Addr, time::Instant};

use bytes::Bytes;
use iroh::{EndpointAddr, EndpointId, endpoint::SendStream};
use peerd_proto::wire::{
    ALPN_PEER, ALPN_ROOM, Body, Content, Context, ConversationId, Entry, FRAME_BYTES_MAX, Header,
    Kind, Standing, StreamId, VerifiedEntry,
};
use registryd_proto::{Digest, Signature};

use super::*;
use crate::{
    core::input::Inbound,
    daemon::{Doors, LinksHandle},
};

/// Nothing here may take longer, not even on a busy machine.
const DEADLINE: Duration = Duration::from_secs(20);

/// A listener with the key of a seed.
pub(super) fn listener(kind: LinkKind, seed: u8) -> Listener {
    let alpn = match kind {
        LinkKind::Peer => ALPN_PEER,
        LinkKind::Room => ALPN_ROOM,
    };
    Listener { kind, alpn, keys: Keypair::from_secret(&[seed; 32]) }
}

/// One peer's links, with its inputs in the hands of the test.
struct Peer {
    links: LinksHandle,
    inputs: mpsc::Receiver<Input>,
    handle: Handle,
    seed: u8,
    bound: Listeners,
}

impl Peer {
    async fn start(seed: u8) -> Self {
        let (handle, inputs) = Handle::new();
        let (doors, receivers) = Doors::new();
        let [peer, room] =
            [(LinkKind::Peer, seed), (LinkKind::Room, seed + 100)].map(|(k, s)| listener(k, s));
        tokio::spawn(run(peer, room, handle.clone(), receivers.links));
        let bound = Listeners {
            peer: (Ipv4Addr::UNSPECIFIED, 0).into(),
            room: (Ipv4Addr::UNSPECIFIED, 0).into(),
        };
        let mut peer = Self { links: doors.links, inputs, handle, seed, bound };
        peer.bind(0, 0).await;
        peer
    }

    async fn bind(&mut self, peer_port: u16, room_port: u16) {
        self.links.send(LinksCommand::Bind { peer_port, room_port }).await;
        match self.next().await {
            Input::Bound(Ok(bound)) => self.bound = bound,
            other => panic!("{other:?}"),
        }
    }

    fn key(&self) -> PublicKey {
        Keypair::from_secret(&[self.seed; 32]).public()
    }

    fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.bound.peer.port()).into()
    }

    async fn next(&mut self) -> Input {
        let next = timeout(DEADLINE, self.inputs.recv()).await;
        next.expect("an input in time").expect("the links run")
    }

    async fn dial(&self, other: &Peer) {
        self.dial_at(other.key(), vec![other.address()]).await;
    }

    async fn dial_at(&self, key: PublicKey, addresses: Vec<SocketAddr>) {
        let (kind, timeout_ms) = (LinkKind::Peer, 4_000);
        self.links.send(LinksCommand::Dial { kind, key, addresses, timeout_ms }).await;
    }

    async fn send(&self, link: LinkId, frame: Frame) {
        self.links.send(LinksCommand::Send { link, frame }).await;
    }

    async fn up(&mut self) -> LinkId {
        match self.next().await {
            Input::LinkUp { link, .. } => link,
            other => panic!("{other:?}"),
        }
    }

    async fn down(&mut self, wanted: LinkId) {
        match self.next().await {
            Input::LinkDown { link } => assert_eq!(link, wanted),
            other => panic!("{other:?}"),
        }
    }

    async fn frame(&mut self, wanted: LinkId) -> Frame {
        match self.next().await {
            Input::LinkFrame { link, frame: Inbound::Other(frame) } if link == wanted => frame,
            other => panic!("{other:?}"),
        }
    }

    /// Links to `other`, with a first frame each way.
    async fn link_to(&mut self, other: &mut Peer) -> (LinkId, LinkId) {
        self.dial(other).await;
        let ours = self.up().await;
        self.send(ours, HELLO).await;
        let theirs = other.up().await;
        assert_eq!(other.frame(theirs).await, HELLO);
        self.answered(ours, other, theirs).await;
        (ours, theirs)
    }

    /// A frame comes back over a link.
    async fn answered(&mut self, ours: LinkId, other: &Peer, theirs: LinkId) {
        other.send(theirs, Frame::Standing(Standing::Allow)).await;
        assert_eq!(self.frame(ours).await, Frame::Standing(Standing::Allow));
    }
}

/// Stands for the first frame: what it says is not for links to judge.
const HELLO: Frame = Frame::Standing(Standing::Ask);

/// A peer that does what no honest one would.
async fn hostile(seed: u8, to: &Peer) -> (Endpoint, Connection) {
    let endpoint = endpoint::open(&listener(LinkKind::Peer, seed), 0).await.expect("open");
    let id = EndpointId::from_bytes(to.key().as_bytes()).expect("a key");
    let place = EndpointAddr::new(id).with_ip_addr(to.address());
    let connection = endpoint.connect(place, ALPN_PEER).await.expect("connect");
    (endpoint, connection)
}

async fn hostile_stream(seed: u8, to: &Peer, bytes: &[u8]) -> (Endpoint, Connection, SendStream) {
    let (endpoint, connection) = hostile(seed, to).await;
    let (mut send, _) = connection.open_bi().await.expect("a stream");
    send.write_all(bytes).await.expect("written");
    (endpoint, connection, send)
}

#[tokio::test]
async fn frames_pass_both_ways_and_a_goodbye_is_the_last_one() {
    let (mut alice, mut bob) = (Peer::start(1).await, Peer::start(2).await);
    alice.dial(&bob).await;
    let Input::LinkUp { link: ours, kind: LinkKind::Peer, key, dialled: true, remote } =
        alice.next().await
    else {
        panic!("a link");
    };
    assert_eq!(key, bob.key());
    assert_eq!(remote.map(|a| a.port()), Some(bob.bound.peer.port()));
    alice.send(ours, HELLO).await;
    let Input::LinkUp { link: theirs, key, dialled: false, remote, .. } = bob.next().await else {
        panic!("a link");
    };
    assert_eq!(key, alice.key());
    assert_eq!(remote.map(|a| a.port()), Some(alice.bound.peer.port()));
    assert_eq!(bob.frame(theirs).await, HELLO);
    alice.answered(ours, &bob, theirs).await;

    alice.send(ours, Frame::Standing(Standing::Block)).await;
    alice.links.send(LinksCommand::Close { link: ours, goodbye: Goodbye::Stopping }).await;
    alice.links.send(LinksCommand::Unbind).await;
    assert_eq!(bob.frame(theirs).await, Frame::Standing(Standing::Block));
    assert_eq!(bob.frame(theirs).await, Frame::Goodbye(Goodbye::Stopping));
    bob.down(theirs).await;
    alice.down(ours).await;
}

#[tokio::test]
async fn a_room_link_needs_the_room_listener() {
    let (mut alice, mut bob) = (Peer::start(3).await, Peer::start(4).await);
    let room_key = Keypair::from_secret(&[104; 32]).public();
    let room: SocketAddr = (Ipv4Addr::LOCALHOST, bob.bound.room.port()).into();
    // Another protocol, another key, nobody.
    for (key, address) in [(room_key, room), (room_key, bob.address())] {
        alice.dial_at(key, vec![address]).await;
        assert!(matches!(alice.next().await, Input::DialFailed { key: k, .. } if k == key));
    }
    alice.dial_at(room_key, vec![]).await;
    assert!(matches!(alice.next().await, Input::DialFailed { .. }));

    let dial = LinksCommand::Dial {
        kind: LinkKind::Room,
        key: room_key,
        addresses: vec![room],
        timeout_ms: 4_000,
    };
    alice.links.send(dial).await;
    let link = alice.up().await;
    alice.send(link, HELLO).await;
    assert!(matches!(bob.next().await, Input::LinkUp { kind: LinkKind::Room, .. }));
}

#[tokio::test]
async fn a_key_being_dialled_is_dialled_once() {
    let (mut alice, mut bob) = (Peer::start(5).await, Peer::start(6).await);
    for _ in 0..3 {
        alice.dial(&bob).await;
    }
    let ours = alice.up().await;
    alice.send(ours, HELLO).await;
    let theirs = bob.up().await;
    assert_eq!(bob.frame(theirs).await, HELLO);
    alice.links.send(LinksCommand::Unbind).await;
    alice.down(ours).await;
    bob.down(theirs).await;
}

#[tokio::test]
async fn links_that_end_while_the_daemon_takes_nothing_make_room_for_others() {
    let (mut alice, mut bob) = (Peer::start(63).await, Peer::start(64).await);
    while bob.inputs.capacity() > 0 {
        bob.handle.offer(Input::Tick);
    }
    let mut links = Vec::new();
    for _ in 0..KEY_LINKS_MAX {
        alice.dial(&bob).await;
        let link = alice.up().await;
        alice.send(link, HELLO).await;
        links.push(link);
    }
    for link in &links {
        let (link, goodbye) = (*link, Goodbye::Stopping);
        alice.links.send(LinksCommand::Close { link, goodbye }).await;
    }
    for _ in links {
        assert!(matches!(alice.next().await, Input::LinkDown { .. }));
    }
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < DEADLINE, "no room for one more");
        alice.dial(&bob).await;
        let link = alice.up().await;
        alice.send(link, HELLO).await;
        // One too many is closed at once.
        match timeout(Duration::from_millis(500), alice.inputs.recv()).await {
            Ok(Some(Input::LinkDown { .. })) => {}
            Ok(other) => panic!("{other:?}"),
            Err(_) => break,
        }
    }
    let link = loop {
        match bob.next().await {
            Input::Tick => {}
            Input::LinkUp { link, .. } => break link,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(bob.frame(link).await, HELLO, "of the others nothing is told");
}

#[tokio::test]
async fn who_breaks_the_protocol_is_cut_and_others_go_on() {
    let (mut alice, mut bob) = (Peer::start(7).await, Peer::start(8).await);
    let (ours, theirs) = alice.link_to(&mut bob).await;
    let giant = u32::try_from(FRAME_BYTES_MAX + 1).expect("small").to_be_bytes();
    let cases: [&[u8]; 4] = [&giant, &[0xff; 64], b"\0\0\0\x03\xff\xff\xff", b"\0\0\0\0"];
    for bytes in cases {
        let (endpoint, connection, _send) = hostile_stream(9, &bob, bytes).await;
        let link = bob.up().await;
        bob.down(link).await;
        let closed = timeout(DEADLINE, connection.closed()).await.expect("closed");
        assert!(closed.to_string().contains("violation"), "{closed}");
        endpoint.close().await;
    }
    // A stream that ends inside a frame.
    let (endpoint, _connection, mut send) = hostile_stream(9, &bob, b"\0\0\0\x09half").await;
    send.finish().expect("open");
    let link = bob.up().await;
    bob.down(link).await;
    endpoint.close().await;
    alice.answered(ours, &bob, theirs).await;
}

#[tokio::test]
async fn entries_come_verified_and_in_order() {
    let (mut alice, mut bob) = (Peer::start(61).await, Peer::start(62).await);
    let (ours, theirs) = alice.link_to(&mut bob).await;
    let entries: Vec<_> = (1..=100).map(signed).collect();
    let conversation = entries[0].header().conversation;
    let sent = entries.iter().map(|e| e.entry().clone()).collect();
    alice.send(ours, Frame::Entries { conversation, entries: sent }).await;
    match bob.next().await {
        Input::LinkFrame { link, frame: Inbound::Entries { entries: came, .. } } => {
            assert_eq!((link, came), (theirs, entries.clone()));
        }
        other => panic!("{other:?}"),
    }
    // One of them forged.
    let mut forged: Vec<_> = entries.iter().map(|e| e.entry().clone()).collect();
    forged[70].signature = forged[71].signature;
    alice.send(ours, Frame::Entries { conversation, entries: forged }).await;
    bob.down(theirs).await;
}

fn signed(seq: u64) -> VerifiedEntry {
    let key = Keypair::from_secret(&[61; 32]);
    let body = Body { salt: [0; 16], text: format!("message {seq}") };
    let header = Header {
        conversation: ConversationId(Digest::default()),
        author: key.public(),
        stream: StreamId(uuid::Uuid::nil()),
        seq,
        previous: Digest::default(),
        origin: None,
        id: format!("id-{seq}").parse().expect("an id"),
        lamport: seq,
        wall_ms: 0,
        context: Context::Direct { chat: None },
        kind: Kind::Text,
        body: body.hash(),
    };
    VerifiedEntry::sign(header, body, &key)
}

#[tokio::test]
async fn an_entry_that_cannot_be_verified_ends_the_link() {
    let (mut alice, mut bob) = (Peer::start(10).await, Peer::start(11).await);
    let (ours, theirs) = alice.link_to(&mut bob).await;
    alice.send(ours, entries(100)).await;
    bob.down(theirs).await;
    alice.down(ours).await;
}

fn entries(header_bytes: usize) -> Frame {
    let signature = Signature::from_bytes([0; 64]);
    let entry =
        Entry { header: Bytes::from(vec![0; header_bytes]), signature, content: Content::Withheld };
    let conversation = ConversationId(Digest::default());
    Frame::Entries { conversation, entries: vec![entry] }
}

#[tokio::test]
async fn a_peer_that_reads_nothing_is_cut() {
    let mut alice = Peer::start(12).await;
    let (_endpoint, connection, _send) = hostile_stream(13, &alice, b"\0").await;
    let link = alice.up().await;
    // More than windows and queue hold; the peer's stream is never read.
    for _ in 0..16 {
        alice.send(link, entries(FRAME_BYTES_MAX - 200)).await;
    }
    alice.down(link).await;
    let closed = timeout(DEADLINE, connection.closed()).await.expect("closed");
    assert!(closed.to_string().contains("slow"), "{closed}");
}

#[tokio::test]
async fn who_says_nothing_is_no_link_and_a_crowd_of_them_keeps_nobody_out() {
    let (mut alice, mut bob) = (Peer::start(14).await, Peer::start(15).await);
    let mut crowd = Vec::new();
    for seed in 20..60 {
        crowd.push(hostile(seed, &bob).await);
    }
    // Bob asks for proof of addresses by now.
    alice.link_to(&mut bob).await;
    for (_, connection) in &crowd {
        timeout(DEADLINE, connection.closed()).await.expect("closed");
    }
    assert!(bob.inputs.try_recv().is_err(), "no link was reported");
}

#[tokio::test]
async fn a_killed_peer_is_noticed() {
    let mut alice = Peer::start(16).await;
    let (key, address) = (alice.key(), alice.address());
    let (see, seen) = tokio::sync::oneshot::channel::<()>();
    let frozen = async move {
        let endpoint = endpoint::open(&listener(LinkKind::Peer, 17), 0).await.expect("open");
        let id = EndpointId::from_bytes(key.as_bytes()).expect("a key");
        let place = EndpointAddr::new(id).with_ip_addr(address);
        let connection = endpoint.connect(place, ALPN_PEER).await.expect("connect");
        let (mut send, _recv) = connection.open_bi().await.expect("a stream");
        send.write_all(&HELLO.encode().expect("small")).await.expect("written");
        seen.await.expect("alice has the link");
        // Nothing of this runtime goes on, as after SIGKILL.
        loop {
            std::thread::park();
        }
    };
    std::thread::spawn(|| {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().build().expect("a runtime").block_on(frozen);
    });
    let link = alice.up().await;
    assert_eq!(alice.frame(link).await, HELLO);
    see.send(()).expect("awaited");
    let before = Instant::now();
    alice.down(link).await;
    assert!(before.elapsed() < endpoint::IDLE + Duration::from_secs(4), "{:?}", before.elapsed());
}

#[tokio::test]
async fn listeners_open_again_where_they_were() {
    let (mut alice, mut bob) = (Peer::start(18).await, Peer::start(19).await);
    let (ours, theirs) = alice.link_to(&mut bob).await;
    let bound = alice.bound;
    alice.bind(0, 0).await;
    assert_eq!(alice.bound, bound, "open listeners that fit are kept");
    alice.links.send(LinksCommand::Unbind).await;
    alice.down(ours).await;
    bob.down(theirs).await;
    alice.dial(&bob).await;
    assert!(matches!(alice.next().await, Input::DialFailed { .. }));

    alice.bind(bound.peer.port(), bound.room.port()).await;
    assert_eq!(alice.bound, bound);
    alice.link_to(&mut bob).await;

    let taken = bob.bound.room.port();
    alice.links.send(LinksCommand::Bind { peer_port: 0, room_port: taken }).await;
    loop {
        match alice.next().await {
            Input::LinkDown { .. } => {}
            Input::Bound(result) => {
                let failure = BindFailure::Taken { kind: LinkKind::Room, port: taken };
                assert_eq!(result, Err(failure));
                return;
            }
            other => panic!("{other:?}"),
        }
    }
}
