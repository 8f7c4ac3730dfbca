//! Dials: from a key and addresses to a connection with its stream, or `DialFailed`.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use iroh::{
    Endpoint, EndpointAddr, EndpointId, KeyParsingError, TransportAddr,
    endpoint::{ConnectError, Connection, ConnectionError},
};
use registryd_proto::{ADDRESSES_MAX, PublicKey};
use tokio::{
    sync::{AcquireError, Semaphore, TryAcquireError},
    time::timeout,
};

use super::{Listener, task::Established};

/// Why a dial led to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    /// No address to send to.
    #[error("no usable address")]
    NoAddress,
    /// A key that no endpoint has.
    #[error(transparent)]
    Key(#[from] KeyParsingError),
    /// Refused, another key, another protocol.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The connection broke at once.
    #[error(transparent)]
    Lost(#[from] ConnectionError),
    /// Nobody answered in time.
    #[error("nobody answered")]
    TimedOut,
    /// As many connections as we may have.
    #[error("too many connections")]
    TooMany(#[from] TryAcquireError),
    /// The links' task has ended.
    #[error(transparent)]
    Stopped(#[from] AcquireError),
}

/// What a dial needs of the open listener.
#[derive(Debug, Clone)]
pub(super) struct Dialler {
    /// Which listener.
    pub(super) listener: Arc<Listener>,
    /// Of which opening.
    pub(super) generation: u64,
    /// Its endpoint.
    pub(super) endpoint: Endpoint,
    /// How many dials may be in flight.
    pub(super) slots: Arc<Semaphore>,
    /// How many connections we may open.
    pub(super) connections: Arc<Semaphore>,
}

impl Dialler {
    /// Dials all addresses at once; the first that answers with the key wins. The time runs from when there
    /// is a slot.
    pub(super) async fn dial(
        self,
        key: PublicKey,
        addresses: Vec<SocketAddr>,
        within: Duration,
    ) -> Result<Established, DialError> {
        let _slot = self.slots.acquire().await?;
        let permit = Arc::clone(&self.connections).try_acquire_owned()?;
        let usable = addresses.into_iter().filter(is_usable).take(2 * ADDRESSES_MAX);
        let place = EndpointAddr::from_parts(
            EndpointId::from_bytes(key.as_bytes())?,
            usable.map(TransportAddr::Ip),
        );
        if place.is_empty() {
            return Err(DialError::NoAddress);
        }
        let connect = async {
            let connection = self.endpoint.connect(place, self.listener.alpn).await?;
            let (send, recv) = connection.open_bi().await?;
            Ok::<_, DialError>((connection, send, recv))
        };
        let (connection, send, recv) =
            timeout(within, connect).await.map_err(|_| DialError::TimedOut)??;
        Ok(Established {
            kind: self.listener.kind,
            generation: self.generation,
            key,
            remote: direct_address(&connection),
            connection,
            send,
            recv,
            dialled: true,
            permit,
        })
    }
}

/// Addresses come from cards and caches that others wrote: what is no host's address gets no packet.
fn is_usable(address: &SocketAddr) -> bool {
    let ip = address.ip().to_canonical();
    let broadcast = matches!(ip, std::net::IpAddr::V4(v4) if v4.is_broadcast());
    address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !broadcast
}

fn direct_address(connection: &Connection) -> Option<SocketAddr> {
    let paths = connection.paths();
    let path = paths.iter().find(|p| p.is_selected()).or_else(|| paths.iter().next())?;
    match path.remote_addr() {
        TransportAddr::Ip(address) => Some(*address),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_packet_goes_where_no_host_is() {
        let usable = |text: &str| is_usable(&text.parse().expect("address"));
        assert!(usable("192.0.2.1:1") && usable("[::1]:1"));
        for text in [
            "192.0.2.1:0",
            "0.0.0.0:1",
            "[::]:1",
            "224.0.0.1:1",
            "[ff02::1]:1",
            "255.255.255.255:1",
        ] {
            assert!(!usable(text), "{text}");
        }
    }
}
