//! Where boot ids, salts, secrets and room ids are drawn from.

#[cfg(any(test, feature = "simulation"))]
use crate::simulation::Seeded;

/// The system gave no randomness.
#[derive(Debug)]
pub(crate) struct NoRandomness;

/// A source of randomness: cheap to clone.
#[derive(Debug, Clone)]
pub(crate) enum Random {
    /// The system's.
    System,
    /// A sequence that its seed decides, for a simulator.
    #[cfg(any(test, feature = "simulation"))]
    Seeded(Seeded),
}

impl Random {
    /// Bytes that nobody can foresee.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub(crate) fn draw<const N: usize>(&self) -> Result<[u8; N], NoRandomness> {
        let mut bytes = [0; N];
        match self {
            Self::System => getrandom::fill(&mut bytes).map_err(|_| NoRandomness)?,
            #[cfg(any(test, feature = "simulation"))]
            Self::Seeded(seeded) => seeded.fill(&mut bytes),
        }
        Ok(bytes)
    }
}
