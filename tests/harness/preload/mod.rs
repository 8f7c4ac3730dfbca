//! Faults at system calls of the real programs: kills at the n-th call, failing syncs, hanging syncs, full
//! disks, clocks that jump, and a journal of all that was written, for [`power`] losses.
//!
//! `preload.c` is compiled once for each test process and put between a program and libc by `LD_PRELOAD`;
//! its header says what it sees and what not. [`Faults`] is one program's share of it: an environment to
//! start it in, and words in a mapped file that steer it while it runs.

pub mod power;

use std::{
    env,
    ffi::OsString,
    fs::File,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use tempfile::TempDir;

/// The source, as it was when the tests were built.
const SOURCE: &str = include_str!("preload.c");
/// More than all words of the mapped file.
const CONTROL_BYTES: u64 = 4096;

/// Writes to regular files, but stdout and stderr.
pub const WRITES: u64 = 1;
/// fsync and fdatasync.
pub const SYNCS: u64 = 2;
/// Writes and sends on sockets.
pub const SENDS: u64 = 4;
/// Renames, removals and changes of length.
pub const NAMES: u64 = 8;
/// All of them.
pub const ALL: u64 = WRITES | SYNCS | SENDS | NAMES;

/// Where at the call the program is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Before it: nothing of it happened.
    Before,
    /// Half of a write is done; before any other call.
    Half,
    /// Behind it: the program never learns of its success.
    After,
}

impl How {
    /// One of the three for a number, so that a sweep over calls meets all of them.
    pub fn of(number: u64) -> Self {
        [Self::Before, Self::Half, Self::After][usize::try_from(number % 3).expect("below 3")]
    }
}

/// The words of `struct control`, in its order.
#[derive(Debug, Clone, Copy)]
enum Word {
    Loaded,
    Calls,
    Syncs,
    KillAt,
    KillKinds,
    KillHow,
    Killed,
    SyncFailFrom,
    SyncFailTo,
    NoSpace,
    Hang,
    ClockShift,
}

/// The faults of one run of one program.
#[derive(Debug)]
pub struct Faults {
    shim: PathBuf,
    folder: TempDir,
    control: File,
    journal_of: Option<PathBuf>,
}

impl Faults {
    /// No fault yet. `None`, and a line on stderr that says so, where the library cannot be built.
    ///
    /// # Panics
    /// If there is no temporary folder.
    #[expect(clippy::print_stderr, reason = "a test that is left out says so")]
    pub fn new() -> Option<Self> {
        static SHIM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        let shim = match SHIM.get_or_init(build) {
            Ok(shim) => shim.clone(),
            Err(reason) => {
                eprintln!("SKIPPED: no faults at system calls here: {reason}");
                return None;
            }
        };
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("control");
        let control = File::options().read(true).write(true).create_new(true).open(path);
        let control = control.expect("our own folder");
        control.set_len(CONTROL_BYTES).expect("some bytes");
        Some(Self { shim, folder, control, journal_of: None })
    }

    /// Journals all changes below a folder, from the program's start on.
    ///
    /// # Panics
    /// If there is no such folder.
    #[must_use]
    pub fn journal(mut self, folder: &Path) -> Self {
        self.journal_of = Some(folder.canonicalize().expect("the folder is there"));
        self
    }

    /// Kills the program at call number `at`, from 1, of these kinds.
    #[must_use]
    pub fn kill_at(self, at: u64, kinds: u64, how: How) -> Self {
        self.set(Word::KillKinds, kinds);
        self.set(Word::KillHow, how as u64);
        self.set(Word::KillAt, at);
        self
    }

    /// Counts calls of these kinds.
    #[must_use]
    pub fn count(self, kinds: u64) -> Self {
        self.set(Word::KillKinds, kinds);
        self
    }

    /// What the program is started with.
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        let mut env = vec![
            ("LD_PRELOAD", self.shim.clone().into_os_string()),
            ("P2P_FAULTS", self.folder.path().join("control").into_os_string()),
        ];
        if let Some(folder) = &self.journal_of {
            env.push(("P2P_FAULTS_JOURNAL", self.journal_file().into_os_string()));
            env.push(("P2P_FAULTS_FOLDER", folder.clone().into_os_string()));
        }
        env
    }

    /// How many calls there were of the kinds that count.
    ///
    /// # Panics
    /// If the program did not load the library: what a test shows without it is nothing.
    pub fn calls(&self) -> u64 {
        assert_eq!(self.get(Word::Loaded), 1, "the program runs without its faults");
        self.get(Word::Calls)
    }

    /// How many syncs there were.
    pub fn syncs(&self) -> u64 {
        self.get(Word::Syncs)
    }

    /// Whether the program was killed by [`Faults::kill_at`].
    ///
    /// # Panics
    /// If the program did not load the library.
    pub fn killed(&self) -> bool {
        assert_eq!(self.get(Word::Loaded), 1, "the program runs without its faults");
        self.get(Word::Killed) == 1
    }

    /// Lets `count` syncs fail, from the next one on.
    pub fn fail_syncs(&self, count: u64) {
        let next = self.syncs() + 1;
        self.set(Word::SyncFailTo, next.saturating_add(count - 1));
        self.set(Word::SyncFailFrom, next);
    }

    /// Whether writes to files find no space.
    pub fn set_full(&self, full: bool) {
        self.set(Word::NoSpace, u64::from(full));
    }

    /// Whether syncs do not return.
    pub fn set_hanging(&self, hanging: bool) {
        self.set(Word::Hang, u64::from(hanging));
    }

    /// Shifts the wall clock.
    pub fn shift_clock(&self, seconds: i64) {
        self.set(Word::ClockShift, seconds.cast_unsigned());
    }

    /// The bytes of the journal so far; 0 without one. What was acknowledged now is in that part of it.
    pub fn journal_bytes(&self) -> u64 {
        self.journal_file().metadata().map_or(0, |meta| meta.len())
    }

    /// Where the journal is.
    pub fn journal_file(&self) -> PathBuf {
        self.folder.path().join("journal")
    }

    fn set(&self, word: Word, value: u64) {
        let at = word as u64 * 8;
        self.control.write_all_at(&value.to_ne_bytes(), at).expect("our own file");
    }

    fn get(&self, word: Word) -> u64 {
        let mut bytes = [0; 8];
        self.control.read_exact_at(&mut bytes, word as u64 * 8).expect("our own file");
        u64::from_ne_bytes(bytes)
    }
}

/// Builds the library beside the test's own executable, under a name of this process.
fn build() -> Result<PathBuf, String> {
    if !cfg!(target_os = "linux") {
        return Err("LD_PRELOAD is used on Linux alone".to_owned());
    }
    let own = env::current_exe().map_err(|e| e.to_string())?;
    let folder = own.parent().ok_or("no folder")?.join("preload");
    std::fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
    let source = folder.join("preload.c");
    // Several test processes may build at once: each under a name of its own, moved into place at the end.
    let part = folder.join(format!("part-{}.so", std::process::id()));
    let library = folder.join("preload.so");
    std::fs::write(&source, SOURCE).map_err(|e| e.to_string())?;
    let compiler = env::var_os("CC").unwrap_or_else(|| "cc".into());
    let output = Command::new(compiler)
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o"])
        .arg(&part)
        .arg(&source)
        .output()
        .map_err(|e| format!("no C compiler: {e}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    std::fs::rename(&part, &library).map_err(|e| e.to_string())?;
    Ok(library)
}
