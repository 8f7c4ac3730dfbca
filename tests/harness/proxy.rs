//! A forwarder between peers and a registry, TCP and UDP, that can capture and cut.
//!
//! It listens on another address of loopback at the registry's own port number, because a session names the
//! HELLO port by number alone.

use std::{
    collections::HashMap,
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use crate::registry::Registry;

/// How often the threads look whether the proxy is gone.
const LOOK: Duration = Duration::from_millis(50);

/// What all threads share.
#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    open: AtomicBool,
    gone: AtomicBool,
    hellos: Mutex<Vec<Vec<u8>>>,
    connections: AtomicUsize,
}

/// The forwarder.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    address: String,
}

impl Proxy {
    /// Starts one in front of `registry`.
    ///
    /// # Panics
    /// If its port is not free on the second address of loopback.
    pub fn start(registry: &Registry) -> Self {
        let upstream = registry.socket_address();
        let place = SocketAddr::from(([127, 0, 0, 2], upstream.port()));
        let tcp = TcpListener::bind(place).expect("the port is free at 127.0.0.2");
        let udp = UdpSocket::bind(place).expect("the port is free at 127.0.0.2");
        let shared = Arc::new(Shared {
            upstream,
            open: AtomicBool::new(true),
            gone: AtomicBool::new(false),
            hellos: Mutex::default(),
            connections: AtomicUsize::new(0),
        });
        tcp.set_nonblocking(true).expect("a listener can be polled");
        let (for_tcp, for_udp) = (Arc::clone(&shared), Arc::clone(&shared));
        thread::spawn(move || accept(&tcp, &for_tcp));
        thread::spawn(move || forward_datagrams(&udp, &for_udp));
        Self { shared, address: format!("{}@{place}", registry.key()) }
    }

    /// What peers pass to `--registry`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Lets everything through, or nothing: with `false` open connections are cut as well.
    pub fn set_open(&self, open: bool) {
        self.shared.open.store(open, Ordering::SeqCst);
    }

    /// How many TCP connections were let through so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// The datagrams that peers have sent so far.
    ///
    /// # Panics
    /// Never.
    pub fn hellos(&self) -> Vec<Vec<u8>> {
        self.shared.hellos.lock().expect("no holder panics").clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.gone.store(true, Ordering::SeqCst);
    }
}

impl Shared {
    fn is_open(&self) -> bool {
        self.open.load(Ordering::SeqCst) && !self.is_gone()
    }

    fn is_gone(&self) -> bool {
        self.gone.load(Ordering::SeqCst)
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    while !shared.is_gone() {
        match listener.accept() {
            Ok((client, _)) if shared.is_open() => {
                let Ok(server) = TcpStream::connect(shared.upstream) else { continue };
                shared.connections.fetch_add(1, Ordering::SeqCst);
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (from, to) = (from.try_clone(), to.try_clone());
                    let shared = Arc::clone(shared);
                    if let (Ok(from), Ok(to)) = (from, to) {
                        thread::spawn(move || forward_stream(from, to, &shared));
                    }
                }
            }
            Ok(_) => {}
            Err(_) => thread::park_timeout(LOOK),
        }
    }
}

fn forward_stream(mut from: TcpStream, mut to: TcpStream, shared: &Shared) {
    let _ = from.set_nonblocking(false);
    let _ = from.set_read_timeout(Some(LOOK));
    let mut buffer = [0; 16 * 1024];
    while shared.is_open() {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                if to.write_all(&buffer[..count]).is_err() {
                    break;
                }
            }
            Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock) => {}
            Err(_) => break,
        }
    }
    let _ = to.shutdown(Shutdown::Write);
    if !shared.is_open() {
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }
}

fn forward_datagrams(front: &UdpSocket, shared: &Arc<Shared>) {
    let _ = front.set_read_timeout(Some(LOOK));
    let mut ways: HashMap<SocketAddr, UdpSocket> = HashMap::new();
    let mut buffer = [0; 2048];
    while !shared.is_gone() {
        let Ok((count, client)) = front.recv_from(&mut buffer) else { continue };
        if !shared.is_open() {
            continue;
        }
        shared.hellos.lock().expect("no holder panics").push(buffer[..count].to_vec());
        let way = ways.entry(client).or_insert_with(|| back_way(front, client, shared));
        let _ = way.send(&buffer[..count]);
    }
}

/// A socket toward the registry for one client, and a thread that carries what comes back.
fn back_way(front: &UdpSocket, client: SocketAddr, shared: &Arc<Shared>) -> UdpSocket {
    let way = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    way.connect(shared.upstream).expect("an address of loopback");
    let _ = way.set_read_timeout(Some(LOOK));
    let back = way.try_clone().expect("a descriptor is free");
    let front = front.try_clone().expect("a descriptor is free");
    let shared = Arc::clone(shared);
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while !shared.is_gone() {
            if let Ok(count) = back.recv(&mut buffer)
                && shared.is_open()
            {
                let _ = front.send_to(&buffer[..count], client);
            }
        }
    });
    way
}
