//! What is broken on purpose in a whole world.

use peerd::core::planted::Planted as PeersPlanted;
use registryd::simulation::Planted as IndexPlanted;

/// Rules that the daemons or the machine break. The default breaks none.
#[derive(Debug, Clone, Copy, Default)]
pub struct Planted {
    /// Effects happen before their writes are committed.
    pub effects_first: bool,
    /// In every peerd.
    pub peers: PeersPlanted,
    /// In registryd.
    pub index: IndexPlanted,
}
