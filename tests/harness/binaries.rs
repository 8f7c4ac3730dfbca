//! The three programs, built once for each test process.
//!
//! `cargo test --workspace` does not promise the binaries of other packages, so the harness asks cargo for
//! them, in the profile that it was itself built with, and looks beside its own executable.
//! `P2PCHAT_BINARIES=DIR` names a folder with ready ones instead.

use std::{
    env,
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// Where the programs are.
#[derive(Debug, Clone)]
pub struct Binaries {
    /// The registry.
    pub registryd: PathBuf,
    /// The peer's daemon.
    pub peerd: PathBuf,
    /// The command line.
    pub p2pctl: PathBuf,
}

/// The programs; the first call builds them.
///
/// # Panics
/// If they cannot be built or are not where cargo puts them.
pub fn binaries() -> &'static Binaries {
    static BINARIES: OnceLock<Binaries> = OnceLock::new();
    BINARIES.get_or_init(|| {
        let folder = match env::var_os("P2PCHAT_BINARIES") {
            Some(folder) => PathBuf::from(folder),
            None => build(),
        };
        let path = |name: &str| {
            let path = folder.join(name);
            assert!(path.is_file(), "there is no {}", path.display());
            path
        };
        Binaries { registryd: path("registryd"), peerd: path("peerd"), p2pctl: path("p2pctl") }
    })
}

/// Builds into the folder of profiles that our own executable lies in, and returns it.
fn build() -> PathBuf {
    let own = env::current_exe().expect("a process knows its executable");
    let mut folder = own.parent().expect("an executable is in a folder");
    if folder.ends_with("deps") {
        folder = folder.parent().expect("deps is below the profile's folder");
    }
    let target = folder.parent().expect("the profile's folder is below target");
    let profile = match folder.file_name().and_then(|n| n.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // What cargo tells those that it runs of themselves is none of the build's business: build scripts that watch it
    // would run anew, and all that rests on them.
    for (name, _) in env::vars_os() {
        let of_package = ["CARGO_PKG_", "CARGO_MANIFEST_"];
        if of_package.iter().any(|of| name.to_string_lossy().starts_with(of)) {
            command.env_remove(name);
        }
    }
    let status = command
        // These alone, so that they are built as they are shipped: without what the simulator plants.
        .args(["build", "--package", "registryd", "--package", "peerd", "--package", "p2pctl"])
        .args(["--bins", "--profile", profile, "--target-dir"])
        .arg(target)
        // Somebody who watches sees that it builds, which can take minutes.
        .args((!io::stderr().is_terminal()).then_some("--quiet"))
        .current_dir(workspace())
        .status()
        .expect("cargo can be run");
    assert!(status.success(), "the programs could not be built");
    folder.to_owned()
}

/// The folder of the workspace.
fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests is a folder of the workspace")
}
