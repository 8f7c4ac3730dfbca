//! One running daemon: spawned, watched for its ready line, killed or stopped.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    process::{limit_descriptors, proportional_bytes, resident_bytes, signal},
    wait::{DEADLINE, eventually},
};

/// How long a daemon may take to serve: first start, on a machine that runs other tests.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// The most of a log that a failed test shows.
const LOG_SHOWN_BYTES: usize = 12_000;

/// A daemon that said it is ready. Dropped, it is killed; its log is shown if the test failed, and searched
/// for panics if it did not.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    child: Child,
    ready: Value,
    log: PathBuf,
}

impl Daemon {
    /// Starts `command`, which was given `--ready-json`, with stderr appended to `log`.
    ///
    /// # Panics
    /// If it is not ready in time; its log is shown.
    pub fn start(name: &str, command: Command, log: &Path) -> Self {
        let daemon = Self::launch(name, command, log);
        assert!(!daemon.ready.is_null(), "{name} did not get ready");
        daemon
    }

    /// As [`Daemon::start`], where it may also end before it is ready; then [`Daemon::ready`] is null.
    ///
    /// # Panics
    /// If it neither gets ready nor ends.
    pub fn launch(name: &str, mut command: Command, log: &Path) -> Self {
        let stderr = File::options().create(true).append(true).open(log).expect("a log file");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
        let mut child = command.spawn().expect("a daemon can be spawned");
        let stdout = child.stdout.take().expect("stdout is piped");
        let (lines, ready) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = lines.send(line);
            }
        });
        let mut daemon = Self { name: name.to_owned(), child, ready: Value::Null, log: log.into() };
        match ready.recv_timeout(READY_WITHIN) {
            Ok(line) => daemon.ready = serde_json::from_str(&line).expect("the ready line is JSON"),
            Err(RecvTimeoutError::Disconnected) => {}
            Err(RecvTimeoutError::Timeout) => panic!("{name} neither gets ready nor ends"),
        }
        daemon
    }

    /// The line of `--ready-json`.
    pub fn ready(&self) -> &Value {
        &self.ready
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its resident memory in bytes; 0 if it is gone.
    pub fn resident_bytes(&self) -> u64 {
        resident_bytes(self.pid()).unwrap_or(0)
    }

    /// Its memory in bytes, with its share of what others have in memory as well; 0 if it is gone.
    pub fn proportional_bytes(&self) -> u64 {
        proportional_bytes(self.pid()).unwrap_or(0)
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    /// If it does not end within `limit`.
    #[track_caller]
    pub fn wait_for_end(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("{} ends by itself", self.name);
        eventually(&what, limit, || self.child.try_wait().expect("our child"))
    }

    /// kill -9.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM; waits for the end and tells it.
    ///
    /// # Panics
    /// If it does not end in time.
    pub fn stop(&mut self) -> ExitStatus {
        signal(self.pid(), Signal::TERM);
        let name = self.name.clone();
        eventually(&format!("{name} ends after SIGTERM"), DEADLINE, || {
            self.child.try_wait().expect("our child")
        })
    }

    /// Stops the process without ending it, as a suspend does.
    pub fn freeze(&self) {
        signal(self.pid(), Signal::STOP);
    }

    /// Undoes [`Daemon::freeze`].
    pub fn thaw(&self) {
        signal(self.pid(), Signal::CONT);
    }

    /// Lets it hold so many descriptors and no more, from this moment on. Those that it has stay.
    pub fn limit_descriptors(&self, soft: u64) {
        limit_descriptors(self.pid(), soft);
    }

    /// All that it logged.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

impl Drop for Daemon {
    #[expect(clippy::print_stderr, reason = "a failed test shows what the daemons logged")]
    fn drop(&mut self) {
        self.kill();
        let log = self.log();
        if thread::panicking() {
            let mut from = log.len().saturating_sub(LOG_SHOWN_BYTES);
            while !log.is_char_boundary(from) {
                from += 1;
            }
            eprintln!("==== log of {} ====\n{}\n==== end ====", self.name, &log[from..]);
        } else {
            assert!(!log.contains("panicked"), "{} panicked:\n{log}", self.name);
        }
    }
}
