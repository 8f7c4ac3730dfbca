//! The switch between the hosts: which packet goes where, when, and what was counted on the way.
//!
//! [`Fabric`] decides and is pure but for its seeded luck; [`run_port`] and [`deliver`] carry packets between
//! it and the devices. Whatever is sent is counted before it can be lost.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap},
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex, MutexGuard},
    time::Instant,
};

use rand::{SeedableRng as _, rngs::StdRng};
use tokio::{sync::mpsc, time::timeout_at};
use tokio_tun::Tun;

use super::{
    nat::Nat,
    packet::{self, Header, Opening},
    way::{Quality, Way},
};

/// Packets of this size and below pass the devices.
const PACKET_BYTES_MAX: usize = 64 * 1024;

/// What went from one host to one address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Packets sent, whether they arrived or not.
    pub packets: u64,
    /// Of them, those that open a TCP connection.
    pub tcp_openings: u64,
    /// Of them, those that open a QUIC connection; a dial sends more than one while nobody answers.
    pub quic_openings: u64,
}

impl std::ops::Sub for Count {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            packets: self.packets - before.packets,
            tcp_openings: self.tcp_openings - before.tcp_openings,
            quic_openings: self.quic_openings - before.quic_openings,
        }
    }
}

/// One host as the switch knows it.
#[derive(Debug)]
pub(super) struct Port {
    /// Of the device.
    pub(super) address: Ipv4Addr,
    pub(super) nat: Option<Nat>,
    pub(super) device: Option<Arc<Device>>,
}

impl Port {
    /// What others see.
    pub(super) fn outside(&self) -> Ipv4Addr {
        self.nat.as_ref().map_or(self.address, Nat::outside)
    }
}

/// The kernel's end of a host's cable.
pub(super) struct Device(pub(super) Tun);

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Device").field(&self.0.name()).finish()
    }
}

/// All that the switch knows.
#[derive(Debug)]
pub(super) struct Fabric {
    pub(super) ports: Vec<Port>,
    ways: HashMap<(usize, usize), Way>,
    usual: Quality,
    luck: StdRng,
    counts: BTreeMap<(usize, IpAddr), Count>,
    /// Every address that a host has or had.
    known: BTreeSet<IpAddr>,
}

impl Fabric {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            ports: Vec::new(),
            ways: HashMap::new(),
            usual: Quality::default(),
            luck: StdRng::seed_from_u64(seed),
            counts: BTreeMap::new(),
            known: BTreeSet::new(),
        }
    }

    pub(super) fn add(&mut self, port: Port) -> usize {
        // A peer behind a NAT tells those that it is linked with its inside address too, which they may try.
        self.known.extend([port.outside().into(), IpAddr::from(port.address)]);
        self.ports.push(port);
        self.ports.len() - 1
    }

    /// Counts an address among those that may be sent to.
    pub(super) fn know(&mut self, address: Ipv4Addr) {
        self.known.insert(address.into());
    }

    /// Gives a host another address.
    pub(super) fn readdress(&mut self, host: usize, address: Ipv4Addr) {
        self.known.insert(address.into());
        self.ports[host].address = address;
    }

    /// Lets a host's NAT forget.
    pub(super) fn rebind(&mut self, host: usize) {
        if let Some(nat) = &mut self.ports[host].nat {
            nat.rebind();
        }
    }

    /// Sets one way.
    pub(super) fn set(&mut self, from: usize, to: usize, quality: Quality) {
        self.way(from, to).quality = quality;
    }

    /// Sets all ways, those of hosts to come too.
    pub(super) fn set_all(&mut self, quality: Quality) {
        self.usual = quality;
        for way in self.ways.values_mut() {
            way.quality = quality;
        }
    }

    /// What `from` has sent to `to`.
    pub(super) fn count(&self, from: usize, to: IpAddr) -> Count {
        self.counts.get(&(from, to)).copied().unwrap_or_default()
    }

    /// Addresses that somebody sent to and that no host ever had, with the host that did.
    pub(super) fn strangers(&self) -> BTreeSet<(usize, IpAddr)> {
        self.counts.keys().filter(|(_, to)| !self.known.contains(to)).copied().collect()
    }

    fn way(&mut self, from: usize, to: usize) -> &mut Way {
        let quality = self.usual;
        self.ways.entry((from, to)).or_insert_with(|| Way::new(quality))
    }

    /// Where a packet of `from` arrives, and when.
    fn route(
        &mut self,
        now: Instant,
        from: usize,
        packet: &mut [u8],
    ) -> Option<(Arc<Device>, Vec<Instant>)> {
        let destination = packet::destination(packet)?;
        let header = packet::read(packet);
        self.tally(from, destination, header, packet);
        let header = header?;
        if let Some(nat) = &mut self.ports[from].nat {
            nat.leave(&header, packet);
        }
        let to = self.ports.iter().position(|p| IpAddr::from(p.outside()) == destination)?;
        if let Some(nat) = &self.ports[to].nat
            && !nat.enter(&packet::read(packet)?, packet)
        {
            return None;
        }
        let mut luck = std::mem::replace(&mut self.luck, StdRng::seed_from_u64(0));
        let arrivals = self.way(from, to).arrivals(now, packet.len(), &mut luck);
        self.luck = luck;
        Some((Arc::clone(self.ports[to].device.as_ref()?), arrivals))
    }

    fn tally(&mut self, from: usize, to: IpAddr, header: Option<Header>, packet: &[u8]) {
        let count = self.counts.entry((from, to)).or_default();
        count.packets += 1;
        match header.map_or(Opening::No, |h| h.opening(packet)) {
            Opening::No => {}
            Opening::Tcp => count.tcp_openings += 1,
            Opening::Quic => count.quic_openings += 1,
        }
    }
}

/// A packet that is under way.
#[derive(Debug)]
pub(super) struct Delivery {
    at: Instant,
    to: Arc<Device>,
    packet: Vec<u8>,
}

pub(super) fn lock(fabric: &Mutex<Fabric>) -> MutexGuard<'_, Fabric> {
    fabric.lock().expect("no holder panics")
}

/// Takes what one host sends, until its device is gone.
pub(super) async fn run_port(
    host: usize,
    device: Arc<Device>,
    fabric: Arc<Mutex<Fabric>>,
    deliveries: mpsc::Sender<Delivery>,
) {
    let mut buffer = vec![0; PACKET_BYTES_MAX];
    while let Ok(count) = device.0.recv(&mut buffer).await {
        let packet = &mut buffer[..count];
        let routed = lock(&fabric).route(Instant::now(), host, packet);
        let Some((to, arrivals)) = routed else { continue };
        for at in arrivals {
            let delivery = Delivery { at, to: Arc::clone(&to), packet: packet.to_vec() };
            // Full is a busy wire: packets get lost there.
            let _ = deliveries.try_send(delivery);
        }
    }
}

/// Hands packets to the devices when their time has come; of those of one moment in the order of sending.
pub(super) async fn deliver(mut deliveries: mpsc::Receiver<Delivery>) {
    let mut waiting: BinaryHeap<Reverse<(Instant, u64)>> = BinaryHeap::new();
    let mut packets = HashMap::new();
    let mut number = 0;
    loop {
        let due = waiting.peek().map(|Reverse((at, _))| *at);
        let next = match due {
            Some(at) => timeout_at(at.into(), deliveries.recv()).await,
            None => Ok(deliveries.recv().await),
        };
        match next {
            Ok(Some(delivery)) => {
                waiting.push(Reverse((delivery.at, number)));
                packets.insert(number, delivery);
                number += 1;
            }
            Ok(None) => return,
            Err(_) => {}
        }
        while let Some(Reverse((at, number))) = waiting.peek().copied()
            && at <= Instant::now()
        {
            waiting.pop();
            if let Some(delivery) = packets.remove(&number) {
                // A device that is down or full takes nothing, as a cable that is pulled.
                let _ = delivery.to.0.try_send(&delivery.packet);
            }
        }
    }
}
