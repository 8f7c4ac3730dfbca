//! Resident memory of idle daemons, and the sizes of the programs.

use std::{fs, io, path::Path, time::Duration};

use harness::{Peer, Registry, binaries, never};

use crate::{row, title};

/// Long enough for a start's work to be over.
const IDLE: Duration = Duration::from_secs(5);

/// Measures.
///
/// # Errors
/// Those of stdout and of the files.
pub(crate) fn run() -> io::Result<()> {
    let mut registry = Registry::start_with(&[], "info");
    let mut peer = Peer::online("alice", &registry);
    never("time passes", IDLE, || false);
    title("resident memory, idle")?;
    row("registryd with one user", &megabytes(registry.daemon().resident_bytes()))?;
    row("peerd, logged in", &megabytes(peer.daemon().resident_bytes()))?;
    title("size of the programs")?;
    let programs = binaries();
    for program in [&programs.registryd, &programs.peerd, &programs.p2pctl] {
        let name = program.file_name().map_or_else(String::new, |n| n.to_string_lossy().into());
        row(&name, &size(program)?)?;
    }
    Ok(())
}

fn size(program: &Path) -> io::Result<String> {
    Ok(megabytes(fs::metadata(program)?.len()))
}

#[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
