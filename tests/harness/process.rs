//! What the system says of processes.

use std::{fs, path::Path, process::Command};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};

/// Resident memory of a process in bytes (`VmRSS`), or `None` if it is gone.
pub fn resident_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|l| l.starts_with("VmRSS:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// Memory of a process in bytes, of which pages that several share count by its share (`Pss`): the sum over
/// processes is what all of them take. `None` if it is gone.
pub(crate) fn proportional_bytes(pid: u32) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = rollup.lines().find(|l| l.starts_with("Pss:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// The soft and the hard limit of descriptors of a process.
///
/// # Panics
/// If the process is gone.
pub fn descriptor_limits(pid: u32) -> (u64, u64) {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("the process runs");
    let line = limits.lines().find(|l| l.starts_with("Max open files")).expect("a limit");
    let mut numbers = line.split_whitespace().filter_map(|word| word.parse().ok());
    let mut next = || numbers.next().expect("two numbers");
    (next(), next())
}

/// Lowers or raises the soft limit of descriptors of a running child; the hard one stays.
pub(crate) fn limit_descriptors(child: u32, soft: u64) {
    let (_, hard) = descriptor_limits(child);
    let limits = Rlimit { current: Some(soft), maximum: Some(hard) };
    prlimit(Some(pid_of(child)), Resource::Nofile, limits).expect("our own child");
}

fn pid_of(child: u32) -> Pid {
    i32::try_from(child).ok().and_then(Pid::from_raw).expect("a child has a pid")
}

/// The arguments of a process and its environment: all that other users of the machine, or a
/// crash report, could see of a secret.
pub fn command_and_environment(pid: u32) -> (Vec<u8>, Vec<u8>) {
    let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
    (read("cmdline"), read("environ"))
}

/// Whether a second user can be played.
pub fn running_as_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether a program can be found.
pub fn has_program(name: &str) -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders).any(|f| f.join(name).is_file())
}

/// kill -9 of a process that we started and have not waited for: for whoever has not got the guard of the
/// daemon at hand.
///
/// # Panics
/// If there is no such process.
pub fn kill_9(pid: u32) {
    signal(pid, Signal::KILL);
}

/// Sends a signal to a process that we started and have not waited for.
pub(crate) fn signal(pid: u32, signal: Signal) {
    kill_process(pid_of(pid), signal).expect("a child that was not waited for can be signalled");
}

/// The beginning of a command line: what runs the rest of it, elsewhere or under watch. Empty by default.
#[derive(Debug, Clone, Default)]
pub struct Prefix(Vec<String>);

impl Prefix {
    /// A program with its arguments, which must execute the rest in its own place: its process id is then
    /// that of what it runs.
    pub fn new(words: &[&str]) -> Self {
        Self(words.iter().map(|&word| word.to_owned()).collect())
    }

    /// The command that runs `program`.
    pub fn command(&self, program: &Path) -> Command {
        let Some((first, rest)) = self.0.split_first() else { return Command::new(program) };
        let mut command = Command::new(first);
        command.args(rest).arg(program);
        command
    }
}

/// A command with nothing of our environment but where programs are; its home is `home`.
pub fn bare(program: &Path, home: &Path) -> Command {
    bare_under(&Prefix::default(), program, home)
}

/// The same under a prefix.
pub(crate) fn bare_under(prefix: &Prefix, program: &Path, home: &Path) -> Command {
    let mut command = prefix.command(program);
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home)
        .env("XDG_DATA_HOME", home.join("data"))
        .env("XDG_CONFIG_HOME", home.join("config"))
        .env("XDG_STATE_HOME", home.join("state"))
        .env("XDG_RUNTIME_DIR", home.join("run"))
        .current_dir(home);
    command
}
