//! A hostile peer: an account of its own at the registry, QUIC, and frames that no peerd would send.

use std::{net::SocketAddr, time::Duration};

use iroh::{
    Endpoint, EndpointAddr, EndpointId, RelayMode, SecretKey,
    endpoint::{Connection, RecvStream, SendStream, presets},
};
use peerd_proto::wire::{ALPN_PEER, Frame, Hello, PROTOCOL_VERSION};
use registryd_proto::{
    Answer, Card, Digest, Endpoints, KeyBinding, Keypair, Password, PublicKey, Reply, Request,
    Signed, Username,
};
use tokio::{runtime::Runtime, time::timeout};

use crate::{peer::PASSWORD, registry::Registry, stranger::RegistryClient, wait::DEADLINE};

/// One hostile peer. Everything blocks.
#[derive(Debug)]
pub struct Impostor {
    registry: PublicKey,
    username: Username,
    keys: Keypair,
    card: Signed<Card>,
    runtime: Runtime,
    endpoint: Endpoint,
    client: RegistryClient,
}

impl Impostor {
    /// Creates the account and opens an endpoint, with honest keys so far.
    ///
    /// # Panics
    /// If the registry refuses, or no endpoint can be opened.
    pub fn registered(name: &str, registry: &Registry) -> Self {
        let username: Username = name.parse().expect("a test's name is one");
        let generate = || Keypair::generate().expect("the system has randomness");
        let (keys, room) = (generate(), generate());
        let mut client = RegistryClient::connect(registry.socket_address(), registry.key(), &keys);
        let binding = KeyBinding::new(&registry.key(), &username, &keys, &room);
        let answer = client.ask(&Request::CreateAccount {
            username: username.clone(),
            password: password(),
            binding: binding.clone(),
            invite: None,
        });
        let Answer::Ok(Reply::Account(account)) = answer else {
            panic!("the registry refuses {name}: {answer:?}")
        };
        let login = Request::Login {
            username: username.clone(),
            password: password(),
            binding,
            attempt: Digest([1; 32]),
            takeover: false,
            endpoints: Endpoints::default(),
        };
        let answer = client.ask(&login);
        assert!(matches!(answer, Answer::Ok(Reply::Session(_))), "{answer:?}");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let endpoint = runtime.block_on(async {
            Endpoint::builder(presets::Minimal)
                .secret_key(SecretKey::from_bytes(&keys.secret()))
                .relay_mode(RelayMode::Disabled)
                .bind()
                .await
                .expect("a free port")
        });
        let card = account.card;
        Self { registry: registry.key(), username, keys, card, runtime, endpoint, client }
    }

    /// Its connection to the registry, under its own key.
    pub fn client(&mut self) -> &mut RegistryClient {
        &mut self.client
    }

    /// Its card.
    pub fn card(&self) -> &Signed<Card> {
        &self.card
    }

    /// Its peer key, with the secret half.
    pub fn keys(&self) -> &Keypair {
        &self.keys
    }

    /// What the registry tells of a user: card and addresses are for everybody who is enrolled.
    ///
    /// # Panics
    /// If the registry does not know the user.
    pub fn look_up(&mut self, name: &str) -> (Signed<Card>, PublicKey, SocketAddr) {
        let username = name.parse().expect("a test's name is one");
        let answer = self.client.ask(&Request::Search { username });
        let Answer::Ok(Reply::User(user)) = answer else { panic!("no {name}: {answer:?}") };
        let key = Card::open(&user.card, &self.registry).expect("a good card").binding.peer_key;
        let address = user.endpoints.peer.iter().find(|a| a.is_ipv4());
        let port = address.expect("a logged-in user has an address").port();
        (user.card, key, SocketAddr::from(([127, 0, 0, 1], port)))
    }

    /// The frame that an honest peer begins with, with any card.
    pub fn hello(&self, username: &Username, card: &Signed<Card>) -> Frame {
        Frame::Hello(Hello {
            version: PROTOCOL_VERSION,
            registry: self.registry,
            username: username.clone(),
            card: card.clone(),
            boot: Digest([7; 32]),
        })
    }

    /// Its own first frame.
    pub fn own_hello(&self) -> Frame {
        self.hello(&self.username, &self.card)
    }

    /// Connects to a peer listener and opens the stream.
    ///
    /// # Panics
    /// If there is no connection.
    pub fn dial(&self, key: &PublicKey, at: SocketAddr) -> Link<'_> {
        self.dial_as(ALPN_PEER, key, at).expect("a handshake")
    }

    /// As [`Impostor::dial`], speaking another protocol or version; `None` if peerd does not.
    ///
    /// # Panics
    /// If no answer comes.
    pub fn dial_as(&self, alpn: &[u8], key: &PublicKey, at: SocketAddr) -> Option<Link<'_>> {
        let id = EndpointId::from_bytes(key.as_bytes()).expect("a key is one");
        let address = EndpointAddr::new(id).with_ip_addr(at);
        let (connection, send, receive) = self.runtime.block_on(async {
            let dialled = timeout(DEADLINE, self.endpoint.connect(address, alpn)).await;
            let connection = dialled.expect("an answer in time").ok()?;
            let (send, receive) = connection.open_bi().await.expect("a stream");
            Some((connection, send, receive))
        })?;
        Some(Link { runtime: &self.runtime, connection, send, receive })
    }
}

fn password() -> Password {
    Password::new(PASSWORD.to_owned()).expect("a good length")
}

/// A hostile peer's link to a peerd.
#[derive(Debug)]
pub struct Link<'a> {
    runtime: &'a Runtime,
    connection: Connection,
    send: SendStream,
    receive: RecvStream,
}

impl Link<'_> {
    /// Sends a frame; whether the other side still reads is for [`Link::is_closed_within`] to say.
    ///
    /// # Panics
    /// If the frame is over the limit.
    pub fn send(&mut self, frame: &Frame) {
        self.write(&frame.encode().expect("a test's frame is small"));
    }

    /// Sends any bytes.
    pub fn write(&mut self, bytes: &[u8]) {
        let send = &mut self.send;
        let _ = self.runtime.block_on(async { timeout(DEADLINE, send.write_all(bytes)).await });
    }

    /// The next frame, or `None` when the link is closed or nothing comes for `within`.
    ///
    /// # Panics
    /// If what comes is no frame.
    pub fn receive(&mut self, within: Duration) -> Option<Frame> {
        let receive = &mut self.receive;
        let body = self.runtime.block_on(async {
            let reading = async {
                let mut length = [0; 4];
                receive.read_exact(&mut length).await.ok()?;
                let mut body = vec![0; usize::try_from(u32::from_be_bytes(length)).ok()?];
                receive.read_exact(&mut body).await.ok()?;
                Some(body)
            };
            timeout(within, reading).await.ok().flatten()
        })?;
        Some(Frame::decode(&body).expect("peerd sends frames"))
    }

    /// Whether the other side closes the link in time.
    pub fn is_closed_within(&self, within: Duration) -> bool {
        self.runtime.block_on(async { timeout(within, self.connection.closed()).await }).is_ok()
    }
}
