//! The one constructor of all QUIC endpoints, and the limits that hold for each.
//!
//! Promises: an endpoint sends packets only to addresses that the core names in a dial, to those that a
//! connected peer names as its own, and to whoever sent packets first. There is no discovery, no port
//! mapping, no public resolver and no relay but one that is inserted later. Nothing is read or written here.

use std::{
    error::Error as _,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket},
    time::Duration,
};

use iroh::{
    Endpoint, RelayMap, RelayMode, SecretKey,
    dns::DnsResolver,
    endpoint::{
        BindError, IdleTimeout, InvalidSocketAddr, NetReportConfig, PortmapperConfig,
        QuicTransportConfig, VarInt, presets,
    },
};

use super::Listener;
use crate::core::input::BindFailure;

/// How long a peer may be mute before its link is down. Keep-alives come three times as often.
pub(super) const IDLE: Duration = Duration::from_secs(6);
const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// What one connection may park in us, in bytes: a frame of the largest size, unread.
const RECEIVE_WINDOW: u32 = 2 * 1024 * 1024;
const STREAM_RECEIVE_WINDOW: u32 = 1024 * 1024;
/// What we park for a peer that reads slowly, in bytes.
const SEND_WINDOW: u64 = 2 * 1024 * 1024;
/// How often a free port is looked for that is free for IPv4 and IPv6 alike.
const PORT_ATTEMPTS: usize = 8;

/// Why an endpoint cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    /// A socket address that no socket can have; never for those made here.
    #[error("a listener's address is refused: {0}")]
    Address(#[from] InvalidSocketAddr),
    /// No port is free, or one cannot be asked for.
    #[error("no UDP port can be had: {0}")]
    Port(io::Error),
    /// The sockets or what is built on them failed.
    #[error("a listener cannot be opened: {0}")]
    Bind(#[from] BindError),
}

impl OpenError {
    fn io_kind(&self) -> Option<io::ErrorKind> {
        let mut source = match self {
            Self::Address(_) => return None,
            Self::Port(error) => return Some(error.kind()),
            Self::Bind(error) => error.source(),
        };
        while let Some(error) = source {
            if let Some(io) = error.downcast_ref::<io::Error>() {
                return Some(io.kind());
            }
            source = error.source();
        }
        None
    }

    /// The failure that the core is told; the rest belongs in the log.
    pub(super) fn failure(&self, listener: &Listener, port: u16) -> BindFailure {
        match self.io_kind() {
            Some(io::ErrorKind::AddrInUse) => BindFailure::Taken { kind: listener.kind, port },
            _ => BindFailure::Failed,
        }
    }
}

/// Opens an endpoint on `port` (0: any free one) for IPv4 and, where the machine has it, IPv6.
pub(super) async fn open(listener: &Listener, port: u16) -> Result<Endpoint, OpenError> {
    if port != 0 {
        return open_at(listener, port).await;
    }
    let mut attempt = 1;
    loop {
        match open_at(listener, free_port().map_err(OpenError::Port)?).await {
            Err(error) if attempt < PORT_ATTEMPTS && in_use(&error) => attempt += 1,
            other => return other,
        }
    }
}

/// Where an endpoint is bound: the port is that of every socket of it.
pub(super) fn bound(endpoint: &Endpoint) -> Option<SocketAddr> {
    let sockets = endpoint.bound_sockets();
    sockets.iter().find(|a| a.is_ipv4()).or(sockets.first()).copied()
}

fn in_use(error: &OpenError) -> bool {
    error.io_kind() == Some(io::ErrorKind::AddrInUse)
}

/// With port 0 the two families would get different numbers, so the number is chosen before.
fn free_port() -> io::Result<u16> {
    Ok(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?.local_addr()?.port())
}

async fn open_at(listener: &Listener, port: u16) -> Result<Endpoint, OpenError> {
    match bind(listener, port, true).await {
        Err(error) if !in_use(&error) => {
            tracing::info!(%error, "no IPv6 listener, trying IPv4 alone");
            bind(listener, port, false).await
        }
        other => other,
    }
}

async fn bind(listener: &Listener, port: u16, with_v6: bool) -> Result<Endpoint, OpenError> {
    let mut net_report = NetReportConfig::minimal();
    net_report.https_probes = true;
    let mut builder = Endpoint::builder(presets::Minimal)
        .secret_key(SecretKey::from_bytes(&listener.keys.secret()))
        .clear_address_lookup()
        .portmapper_config(PortmapperConfig::Disabled)
        .net_report_config(net_report)
        .dns_resolver(DnsResolver::builder().with_system_defaults().disable_fallback().build())
        .alpns(vec![listener.alpn.to_vec()])
        .relay_mode(RelayMode::Custom(RelayMap::empty()))
        .transport_config(transport())
        .clear_ip_transports()
        .bind_addr(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port))?;
    if with_v6 {
        builder = builder.bind_addr(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0))?;
    }
    Ok(builder.bind().await?)
}

/// Never set `ack_frequency_config` here: the QUIC implementation has had memory faults with it.
fn transport() -> QuicTransportConfig {
    QuicTransportConfig::builder()
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .receive_window(VarInt::from_u32(RECEIVE_WINDOW))
        .stream_receive_window(VarInt::from_u32(STREAM_RECEIVE_WINDOW))
        .send_window(SEND_WINDOW)
        .datagram_receive_buffer_size(None)
        .keep_alive_interval(KEEP_ALIVE)
        .max_idle_timeout(IdleTimeout::try_from(IDLE).ok())
        .default_path_keep_alive_interval(KEEP_ALIVE)
        .default_path_max_idle_timeout(IDLE)
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{core::LinkKind, link::tests::listener};

    #[tokio::test]
    async fn nothing_public_is_on() {
        let endpoint = open(&listener(LinkKind::Peer, 1), 0).await.expect("open");
        assert!(endpoint.address_lookup().expect("open").is_empty());
        assert_eq!(endpoint.addr().relay_urls().count(), 0);
        let ports = endpoint.bound_sockets();
        assert!(ports.iter().all(|a| a.port() == ports[0].port()), "{ports:?}");
        endpoint.close().await;
    }

    #[tokio::test]
    async fn a_taken_port_is_told() {
        let holder = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a port");
        let port = holder.local_addr().expect("bound").port();
        let listener = listener(LinkKind::Room, 1);
        let error = open(&listener, port).await.expect_err("taken");
        let taken = BindFailure::Taken { kind: LinkKind::Room, port };
        assert_eq!(error.failure(&listener, port), taken, "{error:?}");
    }
}
