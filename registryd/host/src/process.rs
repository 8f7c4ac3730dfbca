//! The limits of the process.

use std::io;

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};

/// Keys, passwords and messages in memory are not for crash reporters: no core is dumped, and no other process
/// of the user may look.
///
/// # Errors
/// The system does not allow it.
pub fn no_core_dumps() -> io::Result<()> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let limited = setrlimit(Resource::Core, none);
    let hidden = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    Ok(limited.and(hidden)?)
}

/// As many descriptors as the administrator allows: each connection takes one, and the soft limit of most
/// systems is made for programs that use `select`.
///
/// # Errors
/// The system does not allow it.
pub fn raise_descriptors() -> io::Result<()> {
    let allowed = getrlimit(Resource::Nofile).maximum;
    Ok(setrlimit(Resource::Nofile, Rlimit { current: allowed, maximum: allowed })?)
}

/// Both, for a daemon that serves without them as well: the log says what could not be had.
#[cfg(feature = "daemon")]
pub fn set_limits_of_daemon() {
    if let Err(error) = no_core_dumps() {
        tracing::warn!(%error, "core dumps cannot be switched off");
    }
    if let Err(error) = raise_descriptors() {
        tracing::warn!(%error, "the limit of descriptors cannot be raised");
    }
}
