//! The way out for datagrams: HELLO answers and nudges.

use std::{net::SocketAddr, sync::Arc};

use registryd_proto::hello::Datagram;
use tokio::net::UdpSocket;

#[cfg(any(test, feature = "simulation"))]
use crate::simulation::Outbox;

/// Where datagrams leave.
#[derive(Debug)]
pub(crate) enum Outlet {
    /// The HELLO port.
    Socket(Arc<UdpSocket>),
    /// Kept for a simulator to carry.
    #[cfg(any(test, feature = "simulation"))]
    Outbox(Outbox),
}

impl Outlet {
    /// Sends at once or not at all: what is lost costs its peer one interval.
    pub(crate) fn send(&self, datagram: &Datagram, to: SocketAddr) {
        match self {
            Self::Socket(socket) => {
                if let Err(error) = socket.try_send_to(datagram, to) {
                    tracing::debug!(%error, "a datagram was not sent");
                }
            }
            #[cfg(any(test, feature = "simulation"))]
            Self::Outbox(outbox) => outbox.push(to, datagram),
        }
    }
}
