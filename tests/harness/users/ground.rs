//! What is between users who are apart: a network with a host for each, and one for the registry.

use crate::network::{Host, Network};

/// A network and its hosts.
#[derive(Debug)]
pub struct Ground {
    /// What is between the hosts.
    pub net: Network,
    /// The registry's.
    pub hall: Host,
    /// The users', in their order.
    pub hosts: Vec<Host>,
}

impl Ground {
    /// For so many users; `None`, told loudly, where there can be no network.
    pub(super) fn new(users: usize) -> Option<Self> {
        let net = Network::new(users as u64)?;
        let hall = net.host();
        let hosts = (0..users).map(|_| net.host()).collect();
        Some(Self { net, hall, hosts })
    }
}
