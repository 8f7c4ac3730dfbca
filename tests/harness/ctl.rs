//! p2pctl as a script runs it: arguments in, exit code and JSON out.

use std::{
    ffi::OsString,
    io::Write as _,
    path::Path,
    process::{Child, Command, Stdio},
    thread::JoinHandle,
    time::Duration,
};

use registryd_proto::Code;
use serde_json::Value;

use crate::wait::eventually;

/// No call of p2pctl in a test takes longer: its own default deadline is 30 s.
const ENDS_WITHIN: Duration = Duration::from_secs(90);

/// One call that is being put together.
#[derive(Debug)]
pub struct Ctl {
    program: &'static str,
    command: Command,
    stdin: Option<Vec<u8>>,
}

impl Ctl {
    pub(crate) fn new(mut command: Command, socket: &Path) -> Self {
        command.arg("--socket").arg(socket);
        Self::of(command)
    }

    /// A call of any command line that runs p2pctl.
    pub fn of(command: Command) -> Self {
        Self { program: "p2pctl", command, stdin: None }
    }

    /// A call of any command line that runs a subcommand of registryd: it answers as p2pctl does.
    pub fn of_registryd(command: Command) -> Self {
        Self { program: "registryd", ..Self::of(command) }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, args: &[&str]) -> Self {
        self.command.args(args);
        self
    }

    /// Adds to its environment.
    #[must_use]
    pub fn env(mut self, env: &[(&'static str, OsString)]) -> Self {
        self.command.envs(env.iter().cloned());
        self
    }

    /// What it reads; without this stdin is empty.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    /// Starts it and does not wait. Stdin is closed behind what was given.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn spawn(mut self) -> Running {
        let shown = format!("{:?}", self.command);
        self.command.stdin(if self.stdin.is_some() { Stdio::piped() } else { Stdio::null() });
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().expect("p2pctl can be started");
        if let (Some(mut pipe), Some(bytes)) = (child.stdin.take(), self.stdin) {
            // It may end before it has read all: that is for its exit code to tell.
            std::thread::spawn(move || pipe.write_all(&bytes));
        }
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = child.stderr.take().expect("stderr is piped");
        let (stdout, stderr) = (Some(collect(stdout)), Some(collect(stderr)));
        Running { program: self.program, shown, stdout, stderr, child }
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// If it does not end.
    pub fn run(self) -> CtlOutput {
        self.spawn().wait()
    }
}

fn collect(mut pipe: impl std::io::Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        bytes
    })
}

/// A call of p2pctl under way. Dropped, it is killed.
#[derive(Debug)]
pub struct Running {
    program: &'static str,
    shown: String,
    child: Child,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
}

impl Running {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// kill -9.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it does not end.
    pub fn wait(mut self) -> CtlOutput {
        let what = format!("{} ends", self.shown);
        let status =
            eventually(&what, ENDS_WITHIN, || self.child.try_wait().expect("our own child"));
        let text = |thread: Option<JoinHandle<Vec<u8>>>| {
            let bytes = thread.expect("taken once").join().expect("a reader ends");
            String::from_utf8(bytes).expect("our programs write UTF-8")
        };
        CtlOutput {
            program: self.program,
            stdout: text(self.stdout.take()),
            stderr: text(self.stderr.take()),
            code: status.code(),
            shown: std::mem::take(&mut self.shown),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What a call gave.
#[derive(Debug)]
pub struct CtlOutput {
    /// Whose schemas are expected.
    program: &'static str,
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// All of stdout.
    pub stdout: String,
    /// All of stderr.
    pub stderr: String,
    /// The command line, for the text of a failure.
    pub shown: String,
}

impl CtlOutput {
    /// Asserts exit code 0 and returns the object on stdout.
    ///
    /// # Panics
    /// If it is not so.
    #[track_caller]
    pub fn ok(&self) -> Value {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self.object()
    }

    /// Asserts exit code 0 and returns the objects on stdout, one a line.
    ///
    /// # Panics
    /// If it is not so.
    #[track_caller]
    pub fn ok_lines(&self) -> Vec<Value> {
        assert_eq!(self.code, Some(0), "{self:#?}");
        let parse = |line| serde_json::from_str(line).expect("each line is one object");
        self.stdout.lines().map(parse).collect()
    }

    /// The object on stdout, whatever the exit code.
    ///
    /// # Panics
    /// If there is not exactly one.
    #[track_caller]
    pub fn object(&self) -> Value {
        let value = serde_json::from_str::<Value>(&self.stdout);
        let value = value.unwrap_or_else(|e| panic!("one object on stdout ({e}): {self:#?}"));
        let own = format!("{}.", self.program);
        assert!(value["schema"].as_str().is_some_and(|s| s.starts_with(&own)), "{value}");
        value
    }

    /// Asserts that it failed as the contract says: this exit code, stdout empty, one object on stderr with
    /// this word. Returns that object.
    ///
    /// # Panics
    /// If it is not so.
    #[track_caller]
    pub fn failed(&self, code: Code) -> Value {
        self.failed_as(code.as_str(), code)
    }

    /// The same, where the word is one of registryd's own with the exit code of another.
    ///
    /// # Panics
    /// If it is not so.
    #[track_caller]
    pub fn failed_as(&self, word: &str, code: Code) -> Value {
        assert_eq!(self.code, Some(i32::from(code.exit_code())), "{self:#?}");
        assert_eq!(self.stdout, "", "an error leaves stdout empty: {self:#?}");
        let error: Value = serde_json::from_str(self.stderr.trim_end())
            .unwrap_or_else(|e| panic!("one object on stderr ({e}): {self:#?}"));
        assert_eq!(error["schema"], format!("{}.error/1", self.program), "{self:#?}");
        assert_eq!(error["code"], word, "{self:#?}");
        assert!(error["message"].is_string(), "{self:#?}");
        assert!(error["retryable"].is_boolean(), "{self:#?}");
        error
    }
}
