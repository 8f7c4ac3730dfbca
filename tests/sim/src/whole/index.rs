//! The registry of a whole world: the daemon's own code in memory, with a disk that outlives its crashes.
//!
//! A thin layer over [`registryd::simulation`]: what is up or down, which state a start goes on from, and
//! where its datagrams go. It decides nothing.

use std::net::{IpAddr, SocketAddr};

use registryd::simulation::{self, Registry};
use registryd_proto::{Answer, PublicKey, RegistryAddress, Request, hello::Datagram};

/// What a crash of the registry leaves.
pub type IndexDisk = simulation::Disk;

/// The registry's machine.
pub struct Index {
    registry: Option<Registry>,
    disk: IndexDisk,
    address: RegistryAddress,
    key: PublicKey,
    /// An old state of the disk.
    pub backup: Option<IndexDisk>,
    /// How often it was started.
    pub starts: u64,
    /// How often its disk went back to a backup.
    pub rollbacks: u32,
    /// How far its wall clock is off.
    pub wall_offset_ms: i64,
}

impl Index {
    /// The first start ever.
    pub fn new(seed: u64, now: simulation::Now, setup: simulation::Setup) -> Self {
        let registry = Registry::new(seed, now, setup);
        let (disk, address, key) = (registry.disk(), registry.address(), registry.key());
        let registry = Some(registry);
        Self {
            registry,
            disk,
            address,
            key,
            backup: None,
            starts: 1,
            rollbacks: 0,
            wall_offset_ms: 0,
        }
    }

    /// A machine that is down, with this disk. The address and the key are those of `like`.
    pub fn with_disk(disk: IndexDisk, address: RegistryAddress, key: PublicKey) -> Self {
        Self {
            registry: None,
            disk,
            address,
            key,
            backup: None,
            starts: 0,
            rollbacks: 0,
            wall_offset_ms: 0,
        }
    }

    /// Its address with its key.
    pub fn address(&self) -> &RegistryAddress {
        &self.address
    }

    /// Its key.
    pub fn key(&self) -> PublicKey {
        self.key
    }

    /// Whether it runs.
    pub fn is_up(&self) -> bool {
        self.registry.is_some()
    }

    /// Starts it if it is down.
    pub fn start(&mut self, seed: u64, now: simulation::Now) {
        if self.registry.is_none() {
            self.registry = Some(Registry::restart(&self.disk, seed, now));
            self.starts += 1;
        }
    }

    /// Power loss: what it committed stays.
    pub fn crash(&mut self) {
        if let Some(registry) = self.registry.take() {
            self.disk = registry.disk();
        }
    }

    /// What is on its disk now.
    pub fn disk(&self) -> IndexDisk {
        self.registry.as_ref().map_or_else(|| self.disk.clone(), Registry::disk)
    }

    /// Keeps a copy of its disk.
    pub fn back_up(&mut self) {
        self.backup = Some(self.disk());
    }

    /// Puts the copy in place of the disk, while it is down. Tells whether it did.
    pub fn roll_back(&mut self) -> bool {
        if self.registry.is_none()
            && let Some(backup) = self.backup.take()
        {
            self.disk = backup;
            self.rollbacks += 1;
            return true;
        }
        false
    }

    /// Asks it. `None`: it is down.
    pub fn request(
        &mut self,
        key: &PublicKey,
        from: IpAddr,
        request: Request,
        now: simulation::Now,
    ) -> Option<Answer> {
        Some(self.registry.as_mut()?.request(key, from, request, now))
    }

    /// A datagram came.
    pub fn datagram(&mut self, from: SocketAddr, bytes: &[u8], now: simulation::Now) {
        if let Some(registry) = &mut self.registry {
            registry.datagram(from, bytes, now);
        }
    }

    /// Does what is due. Gives what it sends, and when it wants to be called again.
    pub fn settle(&mut self, now: simulation::Now) -> (Vec<(SocketAddr, Datagram)>, Option<u64>) {
        let Some(registry) = &mut self.registry else { return (Vec::new(), None) };
        if registry.next_wake_ms() <= now.monotonic_ms {
            registry.tick(now);
        }
        (registry.take_datagrams(), Some(registry.next_wake_ms()))
    }
}
