//! The HELLO port as the system sees it: datagrams in and answers out, many with one system call.
//!
//! Called by `hello` alone. An answer leaves from the address that its HELLO came to: peers take it from
//! nowhere else. Where the machine has no other address the system cannot choose a wrong one, and all
//! answers of a batch leave with one call; else each leaves by itself with the address said.
//!
//! It never waits to send: what does not fit is lost, which costs its peer one interval.

use std::{
    io::{self, IoSlice, IoSliceMut},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
    os::fd::AsRawFd as _,
    time::{Duration, Instant},
};

use nix::{
    ifaddrs::getifaddrs,
    libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo},
    sys::socket::{
        ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, RecvMsg, SockaddrStorage,
        recvmmsg, sendmsg, setsockopt, sockopt,
    },
};
use registryd_proto::hello::{DATAGRAM_BYTES, Datagram};
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, SocketAddrAny, sendmmsg};
use tokio::{io::Interest, net::UdpSocket};

/// Datagrams taken with one call, and before others get a turn at presence.
pub(crate) const BATCH: usize = 64;

/// How long it is believed that the machine has one address.
const LOOK_PAUSE: Duration = Duration::from_secs(10);

/// A datagram that came.
#[derive(Debug, Clone, Copy)]
struct Arrived {
    length: usize,
    from: SocketAddr,
    /// The address it came to, and the interface where the address says nothing without it.
    to: Option<(IpAddr, u32)>,
}

/// The socket, and a batch of datagrams.
#[derive(Debug)]
pub(crate) struct Port {
    socket: UdpSocket,
    headers: MultiHeaders<SockaddrStorage>,
    /// One byte more than a datagram, so that a longer one is seen as such.
    buffers: Box<[[u8; DATAGRAM_BYTES + 1]; BATCH]>,
    arrived: Vec<Arrived>,
    only: OnlyAddress,
}

impl Port {
    /// Takes a bound socket that does not block. Needs a runtime.
    pub(crate) fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        // IPv6 tells of IPv4 that comes to it as well.
        if socket.local_addr()?.is_ipv6() {
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        } else {
            setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        }
        let room = nix::cmsg_space!(in6_pktinfo);
        Ok(Self {
            socket: UdpSocket::from_std(socket)?,
            headers: MultiHeaders::preallocate(BATCH, Some(room)),
            buffers: Box::new([[0; DATAGRAM_BYTES + 1]; BATCH]),
            arrived: Vec::with_capacity(BATCH),
            only: OnlyAddress::look(false),
        })
    }

    /// Waits for datagrams and takes up to [`BATCH`] of them. Cancel safe.
    ///
    /// # Errors
    /// The socket cannot be waited for any more. What is wrong with a datagram is no error.
    pub(crate) async fn receive(&mut self) -> io::Result<()> {
        self.arrived.clear();
        self.socket.readable().await?;
        let Self { socket, headers, buffers, arrived, .. } = self;
        let taken = socket.try_io(Interest::READABLE, || {
            let mut places = buffers.each_mut().map(|buffer| [IoSliceMut::new(buffer)]);
            let (fd, flags) = (socket.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
            let came = recvmmsg(fd, headers, places.iter_mut(), flags, None)?;
            arrived.extend(came.map(|message| arrival(&message)));
            Ok(())
        });
        match taken {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                // A port unreachable of somebody's that comes back to us.
                tracing::debug!(%error, "datagrams were not received");
            }
            _ => {}
        }
        Ok(())
    }

    /// The datagrams that came, and where from.
    pub(crate) fn datagrams(&self) -> impl Iterator<Item = (&[u8], SocketAddr)> + Clone {
        let bytes = self.buffers.iter().zip(&self.arrived);
        bytes.map(|(buffer, came)| (&buffer[..came.length.min(buffer.len())], came.from))
    }

    /// Sends answers, each to where the datagram with its number came from.
    pub(crate) fn send(&mut self, answers: &[(usize, Datagram)]) {
        self.only.look_again();
        let only = &self.only;
        let free = |at: &usize| self.arrived.get(*at).is_some_and(|came| only.is(came));
        if answers.iter().all(|(at, _)| free(at)) {
            return self.send_together(answers);
        }
        for (at, datagram) in answers {
            if let Some(came) = self.arrived.get(*at) {
                self.send_one(datagram, came);
            }
        }
    }

    fn send_together(&self, mut answers: &[(usize, Datagram)]) {
        let to = |at: &usize| SocketAddrAny::from(self.arrived[*at].from);
        while !answers.is_empty() {
            let addresses: Vec<_> = answers.iter().map(|(at, _)| to(at)).collect();
            let bytes: Vec<_> = answers.iter().map(|(_, d)| [IoSlice::new(d)]).collect();
            let mut controls: Vec<_> =
                answers.iter().map(|_| SendAncillaryBuffer::default()).collect();
            let parts = addresses.iter().zip(&bytes).zip(&mut controls);
            let mut messages: Vec<_> = parts
                .map(|((address, bytes), control)| MMsgHdr::new_with_addr(address, bytes, control))
                .collect();
            let sent = match sendmmsg(&self.socket, &mut messages, SendFlags::DONTWAIT) {
                Ok(sent) => sent,
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::NOBUFS) => return,
                Err(rustix::io::Errno::INTR) => 0,
                Err(error) => {
                    tracing::debug!(%error, "an answer was not sent");
                    1
                }
            };
            answers = &answers[sent.min(answers.len())..];
        }
    }

    fn send_one(&self, datagram: &Datagram, came: &Arrived) {
        let (fd, bytes) = (self.socket.as_raw_fd(), [IoSlice::new(datagram)]);
        let (to, flags) = (SockaddrStorage::from(came.from), MsgFlags::MSG_DONTWAIT);
        let send = |control: &[ControlMessage<'_>]| sendmsg(fd, &bytes, control, flags, Some(&to));
        let sent = match came.to {
            None => send(&[]),
            Some((IpAddr::V4(ip), _)) => {
                let address = in_addr { s_addr: u32::from_ne_bytes(ip.octets()) };
                let info = in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: address, ipi_addr: address };
                send(&[ControlMessage::Ipv4PacketInfo(&info)])
            }
            Some((IpAddr::V6(ip), interface)) => {
                let address = in6_addr { s6_addr: ip.octets() };
                let info = in6_pktinfo { ipi6_addr: address, ipi6_ifindex: interface };
                send(&[ControlMessage::Ipv6PacketInfo(&info)])
            }
        };
        if let Err(error) = sent {
            tracing::debug!(%error, "an answer was not sent");
        }
    }
}

fn arrival(message: &RecvMsg<'_, '_, SockaddrStorage>) -> Arrived {
    let from = message.address.as_ref().and_then(|address| {
        let v4 = address.as_sockaddr_in().map(|a| SocketAddrV4::from(*a).into());
        v4.or_else(|| address.as_sockaddr_in6().map(|a| SocketAddrV6::from(*a).into()))
    });
    let to = message.cmsgs().ok().and_then(|mut controls| {
        controls.find_map(|control| match control {
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                Some((Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes()).into(), 0))
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                let ip = Ipv6Addr::from(info.ipi6_addr.s6_addr);
                let interface = if ip.is_unicast_link_local() { info.ipi6_ifindex } else { 0 };
                Some((ip.into(), interface))
            }
            _ => None,
        })
    });
    // Without a sender there is nobody to answer: the length of nothing is dropped as malformed.
    let nobody = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
    Arrived {
        length: if from.is_some() { message.bytes } else { 0 },
        from: from.unwrap_or(nobody),
        to,
    }
}

/// The one address of this machine for each family, if it has one besides loopback and link-local.
#[derive(Debug)]
struct OnlyAddress {
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
    looked: Instant,
    /// The system did not say: each answer leaves by itself.
    unseen: bool,
}

impl OnlyAddress {
    /// `told`: that the system does not say was logged already.
    fn look(told: bool) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        let found = getifaddrs();
        if let Err(error) = &found
            && !told
        {
            tracing::warn!(%error, "the machine's addresses cannot be seen: answers leave one by one");
        }
        let unseen = found.is_err();
        for address in found.into_iter().flatten().filter_map(|found| found.address) {
            v4.extend(address.as_sockaddr_in().map(|a| a.ip()).filter(|ip| !ip.is_loopback()));
            let ip = address.as_sockaddr_in6().map(|a| a.ip());
            v6.extend(ip.filter(|ip| !ip.is_loopback() && !ip.is_unicast_link_local()));
        }
        Self { v4: only(&v4), v6: only(&v6), looked: Instant::now(), unseen }
    }

    fn look_again(&mut self) {
        if self.looked.elapsed() >= LOOK_PAUSE {
            *self = Self::look(self.unseen);
        }
    }

    /// Whether the system cannot but answer from where the datagram came to.
    fn is(&self, came: &Arrived) -> bool {
        let Some((to, _)) = came.to else { return true };
        let (to, from) = (to.to_canonical(), came.from.ip().to_canonical());
        match to {
            IpAddr::V4(Ipv4Addr::LOCALHOST) | IpAddr::V6(Ipv6Addr::LOCALHOST) => from == to,
            IpAddr::V4(ip) => self.v4 == Some(ip) && !from.is_loopback(),
            IpAddr::V6(ip) => {
                // To a link-local address goes what comes from one.
                let near = matches!(from, IpAddr::V6(from) if from.is_unicast_link_local());
                self.v6 == Some(ip) && !from.is_loopback() && !near
            }
        }
    }
}

fn only<T: Copy>(all: &[T]) -> Option<T> {
    match all {
        [one] => Some(*one),
        _ => None,
    }
}
