//! What the switch reads of a packet, and writes into it when it plays a NAT: addresses, ports, checksums.
//!
//! IPv4 only: the hosts of a [`super::Network`] have no other addresses. Nothing here allocates or fails
//! loudly; what cannot be read is no packet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4};

const TCP: u8 = 6;
const UDP: u8 = 17;
/// Of the header without options.
const IPV4_HEADER_BYTES: usize = 20;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// What opens a connection, as an observer sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening {
    /// Nothing: it belongs to one, or to none.
    No,
    /// A TCP SYN.
    Tcp,
    /// A QUIC Initial from who dials or is dialled.
    Quic,
}

/// The header fields of a packet over IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// From where; port 0 for protocols without ports.
    pub(super) source: SocketAddrV4,
    /// To where; port 0 for protocols without ports.
    pub(super) destination: SocketAddrV4,
    pub(super) protocol: u8,
    /// Where the transport's header begins.
    start: usize,
}

/// Which end of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Source,
    Destination,
}

/// Where a packet of any version is to go, or `None` if it is no packet.
pub(super) fn destination(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => Some(ipv4(packet, 16)?.into()),
        6 => {
            let bytes: [u8; 16] = packet.get(24..40)?.try_into().ok()?;
            Some(Ipv6Addr::from(bytes).into())
        }
        _ => None,
    }
}

/// Reads a packet over IPv4.
pub(super) fn read(packet: &[u8]) -> Option<Header> {
    let first = *packet.first()?;
    if first >> 4 != 4 {
        return None;
    }
    let start = usize::from(first & 0x0f) * 4;
    let protocol = *packet.get(9)?;
    let later_fragment = word(packet, 6)? & 0x1fff != 0;
    let has_ports = matches!(protocol, TCP | UDP) && !later_fragment;
    let port = |at: usize| if has_ports { word(packet, at) } else { Some(0) };
    Some(Header {
        source: SocketAddrV4::new(ipv4(packet, 12)?, port(start)?),
        destination: SocketAddrV4::new(ipv4(packet, 16)?, port(start + 2)?),
        protocol,
        start: start.max(IPV4_HEADER_BYTES),
    })
}

impl Header {
    /// Whether a NAT can map it.
    pub(super) fn has_ports(&self) -> bool {
        self.source.port() != 0
    }

    /// Whether this packet opens a connection.
    pub(super) fn opening(&self, packet: &[u8]) -> Opening {
        match self.protocol {
            TCP => match packet.get(self.start + 13) {
                Some(flags) if flags & (SYN | ACK) == SYN => Opening::Tcp,
                _ => Opening::No,
            },
            // RFC 9000, 17.2: long header, fixed bit, packet type Initial.
            UDP => match packet.get(self.start + 8) {
                Some(first) if first & 0xf0 == 0xc0 => Opening::Quic,
                _ => Opening::No,
            },
            _ => Opening::No,
        }
    }

    /// Writes another address and port at one end, and mends the checksums (RFC 1624).
    pub(super) fn rewrite(&self, packet: &mut [u8], end: End, new: SocketAddrV4) {
        let (ip_at, port_at, old) = match end {
            End::Source => (12, self.start, self.source),
            End::Destination => (16, self.start + 2, self.destination),
        };
        let checksum_at = match self.protocol {
            TCP => self.start + 16,
            _ => self.start + 6,
        };
        let mut changes = [(0, 0); 3];
        let words = |address: Ipv4Addr| {
            let [a, b, c, d] = address.octets();
            [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])]
        };
        let (was, is) = (words(*old.ip()), words(*new.ip()));
        changes[0] = (was[0], is[0]);
        changes[1] = (was[1], is[1]);
        changes[2] = (old.port(), new.port());
        mend(packet, 10, &changes[..2]);
        // Zero is "no checksum" for UDP.
        if self.protocol == TCP || word(packet, checksum_at) != Some(0) {
            mend(packet, checksum_at, &changes);
        }
        put(packet, ip_at, is[0]);
        put(packet, ip_at + 2, is[1]);
        put(packet, port_at, new.port());
    }
}

fn ipv4(packet: &[u8], at: usize) -> Option<Ipv4Addr> {
    let bytes: [u8; 4] = packet.get(at..at + 4)?.try_into().ok()?;
    Some(bytes.into())
}

fn word(packet: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?]))
}

fn put(packet: &mut [u8], at: usize, word: u16) {
    if let Some(place) = packet.get_mut(at..at + 2) {
        place.copy_from_slice(&word.to_be_bytes());
    }
}

/// Changes the checksum at `at` for words that go from one value to another.
fn mend(packet: &mut [u8], at: usize, changes: &[(u16, u16)]) {
    let Some(old) = word(packet, at) else { return };
    let mut sum = u32::from(!old);
    for (was, is) in changes {
        sum += u32::from(!was) + u32::from(*is);
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let sum = u16::try_from(sum).map_or(0, |sum| !sum);
    put(packet, at, sum);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A UDP packet from 10.0.0.1:1000 to 10.0.0.2:2000 whose checksums hold.
    fn packet() -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 32, 0, 0, 0, 0, 64, UDP, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        packet.extend([1000_u16, 2000, 12, 0].iter().flat_map(|w| w.to_be_bytes()));
        packet.extend([0xc3, 1, 2, 3]);
        let header = sum(&packet[..20]);
        put(&mut packet, 10, !header);
        let body = transport_sum(&packet);
        put(&mut packet, 26, !body);
        packet
    }

    fn sum(bytes: &[u8]) -> u16 {
        let words = bytes.chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])));
        let mut sum: u32 = words.sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        u16::try_from(sum).expect("folded")
    }

    fn transport_sum(packet: &[u8]) -> u16 {
        let length = u16::try_from(packet.len() - 20).expect("small").to_be_bytes();
        let pseudo = [&packet[12..20], &[0, packet[9]], &length, &packet[20..]].concat();
        sum(&pseudo)
    }

    #[test]
    fn a_rewritten_packet_has_right_checksums() {
        let mut packet = packet();
        assert_eq!((sum(&packet[..20]), transport_sum(&packet)), (0xffff, 0xffff));
        let header = read(&packet).expect("a packet");
        assert_eq!(header.opening(&packet), Opening::Quic);
        let (outside, inside) = ("10.77.9.9:61234", "192.168.0.7:5");
        header.rewrite(&mut packet, End::Source, outside.parse().expect("an address"));
        let header = read(&packet).expect("a packet");
        header.rewrite(&mut packet, End::Destination, inside.parse().expect("an address"));
        let header = read(&packet).expect("a packet");
        assert_eq!(header.source.to_string(), outside);
        assert_eq!(header.destination.to_string(), inside);
        assert_eq!((sum(&packet[..20]), transport_sum(&packet)), (0xffff, 0xffff));
    }

    #[test]
    fn what_is_no_packet_is_not_read() {
        let whole = packet();
        for length in 0..whole.len() {
            let _ = (read(&whole[..length]), destination(&whole[..length]));
        }
        assert_eq!(read(&[0x60; 40]), None);
        assert_eq!(read(&[]), None);
    }
}
