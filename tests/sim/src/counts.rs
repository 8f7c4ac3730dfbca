//! What was injected into a run, and what became of its messages: the figures of a report.

use serde::Serialize;

/// The kinds of faults that a world injects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is what Fault::name says")]
pub enum Fault {
    Crash,
    TornCommit,
    CrashAmidEffects,
    Restore,
    OneWayCut,
    TwoWayCut,
    BrokenLink,
    LostDial,
    LostFrame,
    DoubledFrame,
    AlteredEntry,
    ClockJump,
    SlowNode,
    StalledDisk,
    MembershipChange,
    RegistryCrash,
    RegistryRestore,
    LostCall,
    LostDatagram,
    OldDatagram,
    AddressChange,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 21] = [
        Self::Crash,
        Self::TornCommit,
        Self::CrashAmidEffects,
        Self::Restore,
        Self::OneWayCut,
        Self::TwoWayCut,
        Self::BrokenLink,
        Self::LostDial,
        Self::LostFrame,
        Self::DoubledFrame,
        Self::AlteredEntry,
        Self::ClockJump,
        Self::SlowNode,
        Self::StalledDisk,
        Self::MembershipChange,
        Self::RegistryCrash,
        Self::RegistryRestore,
        Self::LostCall,
        Self::LostDatagram,
        Self::OldDatagram,
        Self::AddressChange,
    ];

    /// Whether only whole worlds have it: replicas alone know neither registry nor addresses.
    pub fn is_of_whole_worlds(self) -> bool {
        matches!(
            self,
            Self::RegistryCrash
                | Self::RegistryRestore
                | Self::LostCall
                | Self::LostDatagram
                | Self::OldDatagram
                | Self::AddressChange
        )
    }

    /// As a report names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Crash => "power losses",
            Self::TornCommit => "group commits torn",
            Self::CrashAmidEffects => "power losses between two effects",
            Self::Restore => "old backups restored",
            Self::OneWayCut => "one-way partitions",
            Self::TwoWayCut => "two-way partitions",
            Self::BrokenLink => "links broken",
            Self::LostDial => "dials lost",
            Self::LostFrame => "frames lost and sent again",
            Self::DoubledFrame => "frames doubled",
            Self::AlteredEntry => "entries altered on the way",
            Self::ClockJump => "wall clocks moved",
            Self::SlowNode => "nodes slowed down",
            Self::StalledDisk => "disks stalled",
            Self::MembershipChange => "membership changes",
            Self::RegistryCrash => "power losses of the registry",
            Self::RegistryRestore => "old backups of the registry restored",
            Self::LostCall => "requests or replies lost",
            Self::LostDatagram => "datagrams lost",
            Self::OldDatagram => "old datagrams sent again",
            Self::AddressChange => "addresses changed",
        }
    }
}

/// How many faults of each kind were injected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts([u64; Fault::ALL.len()]);

impl Counts {
    /// One more.
    pub fn count(&mut self, fault: Fault) {
        self.0[fault as usize] += 1;
    }

    /// How many of a kind.
    pub fn of(&self, fault: Fault) -> u64 {
        self.0[fault as usize]
    }

    /// Adds those of another run.
    pub fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, n)| *sum += n);
    }

    /// Each kind with its number.
    pub fn iter(&self) -> impl Iterator<Item = (Fault, u64)> + '_ {
        Fault::ALL.into_iter().map(|fault| (fault, self.of(fault)))
    }
}

/// What became of the messages of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Messages {
    /// Committed at their authors.
    pub accepted: u64,
    /// Shown, at each recipient.
    pub shown: u64,
    /// Missing at a recipient after all was healed.
    pub lost: u64,
    /// Shown twice.
    pub duplicated: u64,
    /// Shown before an older one of their author.
    pub misordered: u64,
}

impl Messages {
    /// Adds those of another run.
    pub fn add(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.shown += other.shown;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.misordered += other.misordered;
    }
}
