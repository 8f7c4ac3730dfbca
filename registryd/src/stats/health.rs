//! Whether the registry can do its work, and if not, why.

use std::time::Duration;

use serde::Serialize;

use super::{ConnectionStats, Gauge};
use crate::registry::Registry;

/// The store is asked every two seconds: who has not answered for so long has met a slow disk.
const STORE_SILENT_MAX: Duration = Duration::from_secs(10);

/// Presence moves on twice a second.
const PRESENCE_SILENT_MAX: Duration = Duration::from_secs(5);

/// One thing that is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Check {
    /// All is well.
    Ok,
    /// The database has not answered for some time.
    Silent,
    /// No space is left.
    Full,
    /// Everything there is of it is in use: who comes now is told to come again.
    Overloaded,
}

/// The registry's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Health {
    /// Whether all is well.
    pub(crate) healthy: bool,
    /// The database: `ok` or `silent`.
    pub(crate) store: Check,
    /// Its disk: `ok` or `full`.
    pub(crate) disk: Check,
    /// Who answers HELLOs and counts out who is gone: `ok` or `silent`.
    pub(crate) hello: Check,
    /// Connections, passwords and the store's queues: `ok` or `overloaded`.
    pub(crate) load: Check,
}

impl Health {
    /// Looks. Asks nobody and waits for nothing.
    pub(crate) fn of(registry: &Registry) -> Self {
        let stats = &registry.stats;
        let (writer, _) = registry.store.queues();
        let silent = |is| if is { Check::Silent } else { Check::Ok };
        let store = silent(stats.store_silent() > STORE_SILENT_MAX);
        let disk = if writer.is_full() { Check::Full } else { Check::Ok };
        let hello = silent(stats.presence_silent() > PRESENCE_SILENT_MAX);
        let passwords = registry.passwords.load();
        let open = AsRef::<Gauge>::as_ref(&stats.connections as &ConnectionStats).get();
        let overloaded = passwords.waiting >= passwords.places
            || open >= registry.config().connections.max as u64
            || registry.store.is_overloaded();
        let load = if overloaded { Check::Overloaded } else { Check::Ok };
        let healthy = [store, disk, hello, load].iter().all(|check| *check == Check::Ok);
        Self { healthy, store, disk, hello, load }
    }
}
