//! A client of the registry that is not peerd: for requests that peerd would never make.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use registryd_proto::{Answer, Keypair, PublicKey, Request, tls};
use rustls::{ClientConnection, StreamOwned};

/// The registry answers or closes sooner.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// A TLS connection to a registry under any key.
#[derive(Debug)]
pub struct RegistryClient {
    stream: StreamOwned<ClientConnection, TcpStream>,
}

impl RegistryClient {
    /// Connects as the owner of `keys`. The handshake happens with the first request.
    ///
    /// # Panics
    /// If nothing listens.
    pub fn connect(place: SocketAddr, registry: PublicKey, keys: &Keypair) -> Self {
        let config = tls::client_config(keys, Some(registry)).expect("our own keys");
        let connection =
            ClientConnection::new(config, tls::server_name()).expect("a valid configuration");
        let socket = TcpStream::connect(place).expect("the registry listens");
        socket.set_read_timeout(Some(ANSWER_WITHIN)).expect("a time-out that is not zero");
        Self { stream: StreamOwned::new(connection, socket) }
    }

    /// One request, one answer.
    ///
    /// # Panics
    /// If the registry closes instead.
    pub fn ask(&mut self, request: &Request) -> Answer {
        let json = serde_json::to_vec(request).expect("a request is JSON");
        self.write_frame(&json).expect("the registry reads");
        let answer = self.read_frame().expect("the registry answers");
        serde_json::from_slice(&answer).expect("the registry answers in JSON")
    }

    /// Any bytes as a frame.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn write_frame(&mut self, body: &[u8]) -> std::io::Result<()> {
        let length = u32::try_from(body.len()).expect("a test's frame is small");
        self.write(&length.to_be_bytes())?;
        self.write(body)
    }

    /// Any bytes.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    /// The body of the next frame.
    ///
    /// # Errors
    /// Those of the socket, also when the registry has closed.
    pub fn read_frame(&mut self) -> std::io::Result<Vec<u8>> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let length = usize::try_from(u32::from_be_bytes(length)).expect("four bytes");
        assert!(length <= registryd_proto::REPLY_BYTES_MAX, "a reply of {length} bytes");
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok(body)
    }
}
