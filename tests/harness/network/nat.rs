//! A NAT in front of one host: it rewrites ports and addresses, and can forget them.
//!
//! It maps each port of the inside to one outside, whoever it speaks to, and lets in whoever finds a mapped
//! port (a full cone). While nothing is forgotten a mapping keeps the port's number.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddrV4},
};

use super::packet::{End, Header};

/// Where mapped ports begin after the first time that all was forgotten.
const MAPPED_FROM: u16 = 40_000;

#[derive(Debug)]
pub(super) struct Nat {
    /// Of the host behind it.
    inside: Ipv4Addr,
    /// What others see.
    outside: Ipv4Addr,
    ports: HashMap<(u8, u16), u16>,
    back: HashMap<(u8, u16), u16>,
    /// The next port to give; `None` while numbers are kept.
    next: Option<u16>,
}

impl Nat {
    pub(super) fn new(inside: Ipv4Addr, outside: Ipv4Addr) -> Self {
        Self { inside, outside, ports: HashMap::new(), back: HashMap::new(), next: None }
    }

    pub(super) fn outside(&self) -> Ipv4Addr {
        self.outside
    }

    /// Forgets every mapping, as a NAT that starts anew: each port is seen as another one from now on.
    pub(super) fn rebind(&mut self) {
        self.ports.clear();
        self.back.clear();
        self.next = Some(self.next.unwrap_or(MAPPED_FROM));
    }

    /// Rewrites a packet of the host.
    pub(super) fn leave(&mut self, header: &Header, packet: &mut [u8]) {
        if !header.has_ports() || *header.source.ip() != self.inside {
            return;
        }
        let inner = (header.protocol, header.source.port());
        let port = match self.ports.get(&inner) {
            Some(port) => *port,
            None => self.map(inner),
        };
        header.rewrite(packet, End::Source, SocketAddrV4::new(self.outside, port));
    }

    /// Rewrites a packet to the host; false if nobody inside waits for it.
    pub(super) fn enter(&self, header: &Header, packet: &mut [u8]) -> bool {
        let outer = (header.protocol, header.destination.port());
        let Some(port) = self.back.get(&outer) else { return false };
        header.rewrite(packet, End::Destination, SocketAddrV4::new(self.inside, *port));
        true
    }

    fn map(&mut self, inner: (u8, u16)) -> u16 {
        let port = match &mut self.next {
            None => inner.1,
            Some(next) => {
                let port = *next;
                *next = next.checked_add(1).unwrap_or(MAPPED_FROM);
                port
            }
        };
        self.ports.insert(inner, port);
        self.back.insert((inner.0, port), inner.1);
        port
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::packet;

    /// A UDP packet without a checksum.
    fn packet(source: &str, destination: &str) -> Vec<u8> {
        let [source, destination] =
            [source, destination].map(|a| a.parse::<SocketAddrV4>().expect("an address"));
        let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0];
        packet.extend(source.ip().octets());
        packet.extend(destination.ip().octets());
        packet.extend([source.port(), destination.port(), 8, 0].map(u16::to_be_bytes).concat());
        packet
    }

    fn header(packet: &[u8]) -> Header {
        packet::read(packet).expect("a packet")
    }

    #[test]
    fn a_nat_keeps_a_mapping_until_it_forgets_it() {
        let outside = Ipv4Addr::new(10, 77, 0, 9);
        let mut nat = Nat::new(Ipv4Addr::new(192, 168, 77, 9), outside);
        let mut seen = || {
            let mut packet = packet("192.168.77.9:500", "10.77.0.1:1");
            nat.leave(&header(&packet), &mut packet);
            let seen = header(&packet).source;
            let mut back = super::tests::packet("10.77.0.2:7", &seen.to_string());
            assert!(nat.enter(&header(&back), &mut back), "whoever finds the port is let in");
            assert_eq!(header(&back).destination.to_string(), "192.168.77.9:500");
            let mut late = super::tests::packet("10.77.0.2:7", "10.77.0.9:500");
            let kept = nat.enter(&header(&late), &mut late);
            nat.rebind();
            assert!(!nat.enter(&header(&late), &mut late), "forgotten");
            (seen.port(), kept)
        };
        assert_eq!(seen(), (500, true));
        assert_eq!(seen(), (40_000, false));
        assert_eq!(seen(), (40_001, false));
    }
}
