//! Whether the registry can do its work, and if not, why.

use std::time::Duration;

use serde::Serialize;

use crate::registry::Registry;

/// The store is asked every two seconds: who has not answered for so long has met a slow disk.
const STORE_SILENT_MAX: Duration = Duration::from_secs(10);

/// Presence moves on twice a second.
const PRESENCE_SILENT_MAX: Duration = Duration::from_secs(5);

/// Whoever looks now and then sees that newcomers are refused.
const REFUSED_RECENTLY: Duration = Duration::from_secs(10);

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
    /// Newcomers that found no place a moment ago, passwords and the store's queues: `ok` or `overloaded`.
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
        // That all places are taken says nothing: a newcomer gets that of one who is silent.
        let refused = stats.since_full().is_some_and(|since| since < REFUSED_RECENTLY);
        let overloaded =
            passwords.waiting >= passwords.places || refused || registry.store.is_overloaded();
        let load = if overloaded { Check::Overloaded } else { Check::Ok };
        let healthy = [store, disk, hello, load].iter().all(|check| *check == Check::Ok);
        Self { healthy, store, disk, hello, load }
    }
}
