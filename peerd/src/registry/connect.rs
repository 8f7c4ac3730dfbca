//! One connection to a registry: found, opened and proved, each step under a time-out.

use std::{io, net::SocketAddr, time::Duration};

use registryd_proto::{
    Code, Failure, Keypair, PublicKey, RegistryAddress, frame,
    tls::{self, TlsError},
};
use tokio::{
    io::{ReadHalf, WriteHalf},
    net::TcpStream,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};

use crate::core::input::CallFailure;

/// For the name service, which may be slow or gone.
pub(super) const RESOLVE: Duration = Duration::from_secs(5);
/// For one address to take a connection.
const CONNECT: Duration = Duration::from_secs(3);
/// A next address is tried beside one that has not answered for so long (RFC 8305).
const STAGGER: Duration = Duration::from_millis(250);
/// For the proof of both keys.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    /// The name service failed.
    #[error("the registry's name cannot be resolved: {0}")]
    Resolve(io::Error),
    /// The name has no address.
    #[error("the registry's name has no address")]
    NoAddress,
    /// No address took a connection.
    #[error("the registry takes no connection: {0}")]
    Tcp(io::Error),
    /// A step took too long.
    #[error("the registry does not answer in time")]
    TimedOut,
    /// Another key than the pinned one.
    #[error(transparent)]
    WrongKey(#[from] tls::WrongKey),
    /// It speaks another version.
    #[error("the registry speaks another version of the protocol")]
    Version,
    /// The handshake failed otherwise.
    #[error("the handshake with the registry failed: {0}")]
    Handshake(io::Error),
    /// No proof of a key.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl ConnectError {
    /// What the core is told; the rest belongs in the log.
    pub(super) fn failure(&self) -> CallFailure {
        match self {
            Self::WrongKey(wrong) => CallFailure::WrongKey { shown: wrong.found },
            Self::Version | Self::Tls(TlsError::Alpn) => {
                CallFailure::Failed(Failure::new(Code::VersionMismatch, self.to_string()))
            }
            Self::Resolve(_)
            | Self::NoAddress
            | Self::Tcp(_)
            | Self::TimedOut
            | Self::Handshake(_)
            | Self::Tls(TlsError::Config(_) | TlsError::NoKey) => CallFailure::Unreachable,
        }
    }
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Connection {
    /// The key that the registry proved.
    pub(super) key: PublicKey,
    /// Replies.
    pub(super) reader: FramedRead<ReadHalf<TlsStream<TcpStream>>, LengthDelimitedCodec>,
    /// Requests.
    pub(super) writer: FramedWrite<WriteHalf<TlsStream<TcpStream>>, LengthDelimitedCodec>,
}

/// Opens a connection with the proof of both keys.
pub(super) async fn connect(
    address: &RegistryAddress,
    keys: &Keypair,
) -> Result<Connection, ConnectError> {
    let tcp = race(resolve(address.host(), address.port()).await?).await?;
    let connector = TlsConnector::from(tls::client_config(keys, address.key)?);
    let handshake = connector.connect(tls::server_name(), tcp);
    let stream = match timeout(HANDSHAKE, handshake).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            return Err(match tls::wrong_key(&error) {
                Some(wrong) => wrong.into(),
                None if tls::version_mismatch(&error) => ConnectError::Version,
                None => ConnectError::Handshake(error),
            });
        }
        Err(_) => return Err(ConnectError::TimedOut),
    };
    let key = tls::remote_key(stream.get_ref().1)?;
    let (read, write) = tokio::io::split(stream);
    Ok(Connection {
        key,
        reader: FramedRead::new(read, frame::Kind::Reply.codec()),
        writer: FramedWrite::new(write, frame::Kind::Request.codec()),
    })
}

/// The addresses of a host, in the order of the name service. Never empty.
pub(super) async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, ConnectError> {
    let lookup = timeout(RESOLVE, tokio::net::lookup_host((host, port))).await;
    let found = lookup.map_err(|_| ConnectError::TimedOut)?.map_err(ConnectError::Resolve)?;
    let addresses: Vec<_> = found.take(ADDRESSES_MAX).collect();
    if addresses.is_empty() { Err(ConnectError::NoAddress) } else { Ok(addresses) }
}

/// The first connection that comes about. Each address starts when the one before failed, or was slow.
async fn race(addresses: Vec<SocketAddr>) -> Result<TcpStream, ConnectError> {
    let mut left = addresses.into_iter();
    let mut attempts = JoinSet::new();
    let mut failure = ConnectError::NoAddress;
    loop {
        if let Some(address) = left.next() {
            attempts.spawn(timeout(CONNECT, TcpStream::connect(address)));
        }
        tokio::select! {
            done = attempts.join_next() => match done {
                Some(Ok(Ok(Ok(stream)))) => {
                    // Requests are small, and each waits for its reply.
                    stream.set_nodelay(true).map_err(ConnectError::Tcp)?;
                    return Ok(stream);
                }
                Some(Ok(Ok(Err(error)))) => failure = ConnectError::Tcp(error),
                Some(Ok(Err(_))) => failure = ConnectError::TimedOut,
                Some(Err(error)) => failure = ConnectError::Tcp(error.into()),
                None => return Err(failure),
            },
            () = sleep(STAGGER), if left.len() > 0 => {}
        }
    }
}
