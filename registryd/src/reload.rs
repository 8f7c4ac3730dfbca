//! Another configuration for a registry that runs: what can change does at once, the rest is told.

use std::fmt;

use crate::{config::Config, registry::Registry};

/// What became of a new configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reloaded {
    /// In force from here on.
    pub changed: Vec<&'static str>,
    /// In force after a restart.
    pub needs_restart: Vec<&'static str>,
}

impl fmt::Display for Reloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.changed.as_slice() {
            [] => write!(f, "nothing changed"),
            changed => write!(f, "changed: {}", changed.join(", ")),
        }?;
        match self.needs_restart.as_slice() {
            [] => Ok(()),
            restart => write!(f, "; needs a restart: {}", restart.join(", ")),
        }
    }
}

/// Takes over what can change. Nothing of it can fail, so all of it holds or, if the new configuration could
/// not be read, none.
pub(crate) fn apply(registry: &Registry, new: Config) -> Reloaded {
    let old = registry.config();
    let told = |pairs: &[(bool, &'static str)]| {
        pairs.iter().filter(|(differs, _)| *differs).map(|(_, name)| *name).collect::<Vec<_>>()
    };
    let changed = told(&[
        (new.registration != old.registration, "registration"),
        (new.hello != old.hello, "hello"),
        (new.connections != old.connections, "connections"),
        (new.limits != old.limits, "limits"),
    ]);
    let needs_restart = told(&[
        (new.data_dir != old.data_dir, "data_dir"),
        (new.listen != old.listen, "listen"),
        (new.log_dir != old.log_dir, "log_dir"),
        (new.store != old.store, "store"),
        (new.metrics != old.metrics, "metrics"),
    ]);
    registry.limits.set(&new.limits);
    registry.presence().set_pace(new.hello.pace());
    let Config { registration, hello, connections, limits, .. } = new;
    registry.set_config(Config { registration, hello, connections, limits, ..(*old).clone() });
    Reloaded { changed, needs_restart }
}
