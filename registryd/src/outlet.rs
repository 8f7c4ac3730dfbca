//! The way out for datagrams that answer nothing: nudges. Answers go the way their HELLOs came (`port`).

use std::net::{SocketAddr, UdpSocket};

use registryd_proto::hello::Datagram;

#[cfg(any(test, feature = "simulation"))]
use crate::simulation::Outbox;

/// Where datagrams leave.
#[derive(Debug)]
pub(crate) enum Outlet {
    /// The HELLO port, which does not block.
    Socket(UdpSocket),
    /// Kept for a simulator to carry.
    #[cfg(any(test, feature = "simulation"))]
    Outbox(Outbox),
}

impl Outlet {
    /// Sends at once or not at all: what is lost costs its peer one interval.
    pub(crate) fn send(&self, datagram: &Datagram, to: SocketAddr) {
        match self {
            Self::Socket(socket) => {
                if let Err(error) = socket.send_to(datagram, to) {
                    tracing::debug!(%error, "a datagram was not sent");
                }
            }
            #[cfg(any(test, feature = "simulation"))]
            Self::Outbox(outbox) => outbox.push(to, datagram),
        }
    }
}
