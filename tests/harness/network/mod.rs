//! A network of our own: hosts that are namespaces of the kernel, and a switch between them that can lose,
//! double, reorder, delay, slow down and cut, one way or both, and counts what goes where.
//!
//! Each host has one device, whose packets the switch, in this process, carries. Nothing is configured
//! outside the namespaces, nothing can leave them but through the switch, and whatever is sent to an address
//! that no host has ends there and is seen ([`Network::strangers`]). Needs root, `ip` (iproute2) and
//! `/dev/net/tun`; [`Network::new`] says loudly if they are lacking.

mod namespace;
mod nat;
mod packet;
mod switch;
mod town;
mod way;

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU8, Ordering},
    },
};

use tokio::{runtime::Runtime, sync::mpsc};
use tokio_tun::Tun;

use self::{
    namespace::Namespace,
    nat::Nat,
    switch::{Delivery, Device, Fabric, Port, deliver, lock, run_port},
};
use crate::process::{Prefix, has_program, running_as_root};

pub(crate) use self::town::registry_at;
pub use self::{
    switch::Count,
    town::{Town, User, Weather, converge},
    way::Quality,
};

/// Packets under way in one network; more are lost.
const UNDER_WAY_MAX: usize = 16 * 1024;

/// A network. Dropped, all that it made is gone; processes inside must have been ended before.
#[derive(Debug)]
pub struct Network {
    fabric: Arc<Mutex<Fabric>>,
    deliveries: mpsc::Sender<Delivery>,
    runtime: Option<Runtime>,
    /// The last part of the addresses given so far.
    given: AtomicU8,
}

/// A host in a network.
#[derive(Debug)]
pub struct Host {
    index: usize,
    namespace: Namespace,
    fabric: Arc<Mutex<Fabric>>,
}

impl Network {
    /// A network without hosts, whose luck comes from `seed`; `None`, and a loud line, where there can be none.
    ///
    /// # Panics
    /// If the system refuses what it should grant.
    #[expect(clippy::print_stderr, reason = "a test that is left out says so")]
    pub fn new(seed: u64) -> Option<Self> {
        let lacking = match () {
            () if !running_as_root() => Some("root"),
            () if !has_program("ip") => Some("the program ip (iproute2)"),
            () if !Path::new("/dev/net/tun").exists() => Some("/dev/net/tun"),
            () => None,
        };
        if let Some(lacking) = lacking {
            eprintln!("SKIPPED: a test with a network of its own needs {lacking}");
            return None;
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("switch")
            .enable_all()
            .build()
            .expect("a runtime");
        let (deliveries, due) = mpsc::channel(UNDER_WAY_MAX);
        runtime.spawn(deliver(due));
        let fabric = Arc::new(Mutex::new(Fabric::new(seed)));
        Some(Self { fabric, deliveries, runtime: Some(runtime), given: AtomicU8::new(0) })
    }

    /// A new host with an address that all others reach.
    ///
    /// # Panics
    /// If the system refuses, or there are 250 already.
    pub fn host(&self) -> Host {
        self.add(self.free_address(), None)
    }

    /// A new host behind a NAT of its own.
    ///
    /// # Panics
    /// As [`Network::host`].
    pub fn host_behind_nat(&self) -> Host {
        let outside = self.free_address();
        let [_, _, _, last] = outside.octets();
        let inside = Ipv4Addr::new(192, 168, 77, last);
        self.add(inside, Some(Nat::new(inside, outside)))
    }

    fn add(&self, address: Ipv4Addr, nat: Option<Nat>) -> Host {
        let namespace = Namespace::new();
        let runtime = self.runtime.as_ref().expect("there until drop");
        let _inside = runtime.enter();
        let name = namespace.device_name();
        let device = Tun::builder().name(&name).build().expect("a TUN device can be made");
        let device = device.into_iter().next().expect("one device was asked for");
        let device = Arc::new(Device(device));
        namespace.take(&name, address);
        namespace.set_hosts("");
        let port = Port { address, nat, device: Some(Arc::clone(&device)) };
        let index = self.lock().add(port);
        let (fabric, deliveries) = (Arc::clone(&self.fabric), self.deliveries.clone());
        runtime.spawn(run_port(index, device, fabric, deliveries));
        Host { index, namespace, fabric: Arc::clone(&self.fabric) }
    }

    /// An address of ours that nobody has.
    ///
    /// # Panics
    /// If all are given.
    pub fn free_address(&self) -> Ipv4Addr {
        let last = self.given.fetch_add(1, Ordering::Relaxed) + 1;
        assert!(last < 250, "a network has room for 250 addresses");
        Ipv4Addr::new(10, 77, 0, last)
    }

    /// Sets what is between two hosts, both ways.
    pub fn set(&self, one: &Host, other: &Host, quality: Quality) {
        self.set_one_way(one, other, quality);
        self.set_one_way(other, one, quality);
    }

    /// Sets one way only.
    pub fn set_one_way(&self, from: &Host, to: &Host, quality: Quality) {
        self.lock().set(from.index, to.index, quality);
    }

    /// Sets every way.
    pub fn set_all(&self, quality: Quality) {
        self.lock().set_all(quality);
    }

    /// Cuts two hosts off from each other.
    pub fn cut(&self, one: &Host, other: &Host) {
        self.set(one, other, Quality::CUT);
    }

    /// Makes the way between two hosts perfect again.
    pub fn heal(&self, one: &Host, other: &Host) {
        self.set(one, other, Quality::default());
    }

    /// Makes every way perfect again.
    pub fn heal_all(&self) {
        self.set_all(Quality::default());
    }

    /// What one host has sent to another at its present address, arrived or not.
    pub fn sent(&self, from: &Host, to: &Host) -> Count {
        self.sent_to(from, to.address())
    }

    /// The same to any address.
    pub fn sent_to(&self, from: &Host, to: Ipv4Addr) -> Count {
        self.lock().count(from.index, to.into())
    }

    /// An address at which no host is may be sent to: [`Network::strangers`] is silent about it.
    pub fn expect(&self, address: Ipv4Addr) {
        self.lock().know(address);
    }

    /// Addresses that were sent to and that no host ever had, with the sender's own address. Empty: no packet
    /// went to anybody who is not part of this network.
    pub fn strangers(&self) -> BTreeSet<(Ipv4Addr, IpAddr)> {
        let fabric = self.lock();
        let strangers = fabric.strangers().into_iter();
        strangers.map(|(host, to)| (fabric.ports[host].outside(), to)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Fabric> {
        lock(&self.fabric)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Host {
    /// The address at which others find it.
    pub fn address(&self) -> Ipv4Addr {
        lock(&self.fabric).ports[self.index].outside()
    }

    /// What runs a program on this host.
    pub fn prefix(&self) -> Prefix {
        self.namespace.prefix()
    }

    /// Moves it to another address: for a moment it has none.
    ///
    /// # Panics
    /// If the system refuses, or it is behind a NAT.
    pub fn readdress(&self, address: Ipv4Addr) {
        let old = self.address();
        lock(&self.fabric).readdress(self.index, address);
        self.namespace.readdress(old, address);
    }

    /// Its NAT forgets all mappings and makes others.
    pub fn rebind(&self) {
        lock(&self.fabric).rebind(self.index);
    }

    /// Whom it asks for names that it does not know itself. An address that no host has is a name server
    /// that never answers; [`Network::strangers`] shows it unless it was expected.
    ///
    /// # Panics
    /// If the file cannot be written.
    pub fn set_name_server(&self, server: Ipv4Addr) {
        self.namespace.set_name_server(server);
    }

    /// The names that it knows itself, as lines of `/etc/hosts`.
    ///
    /// # Panics
    /// If the file cannot be written.
    pub fn set_names(&self, lines: &str) {
        self.namespace.set_hosts(lines);
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::wait::{DEADLINE, eventually};

    /// Asks whether the other host's kernel refuses a connection: then packets go both ways.
    fn reaches(from: &Host, to: Ipv4Addr) -> bool {
        let script = format!("exec 3<>/dev/tcp/{to}/9");
        let bash = from.prefix().command(Path::new("timeout"));
        let mut bash: Command = bash;
        let output = bash.args(["0.3", "bash", "-c", &script]).output().expect("bash");
        String::from_utf8_lossy(&output.stderr).contains("refused")
    }

    #[test]
    fn hosts_reach_each_other_unless_they_are_cut_off() {
        let Some(net) = Network::new(1) else { return };
        let (one, other) = (net.host(), net.host());
        eventually("they reach each other", DEADLINE, || reaches(&one, other.address()));
        assert_eq!(net.sent(&one, &other).tcp_openings, 1);
        net.set_one_way(&other, &one, Quality::CUT);
        assert!(!reaches(&one, other.address()) && !reaches(&other, one.address()));
        net.heal(&one, &other);
        eventually("healed", DEADLINE, || reaches(&other, one.address()));
        assert!(net.strangers().is_empty());
        let nobody = net.free_address();
        assert!(!reaches(&one, nobody));
        assert_eq!(net.strangers(), BTreeSet::from([(one.address(), nobody.into())]));
    }

    #[test]
    fn a_host_moves_and_a_nat_forgets() {
        let Some(net) = Network::new(1) else { return };
        let (one, behind) = (net.host(), net.host_behind_nat());
        eventually("out through the NAT", DEADLINE, || reaches(&behind, one.address()));
        assert!(!reaches(&one, behind.address()), "nothing was mapped to port 9");
        behind.rebind();
        eventually("out again", DEADLINE, || reaches(&behind, one.address()));
        one.readdress(net.free_address());
        eventually("at the new address", DEADLINE, || reaches(&behind, one.address()));
        assert!(net.strangers().is_empty());
    }
}
