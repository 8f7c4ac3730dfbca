//! A peerd of cardboard, and a p2pctl to run against it.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;

/// No call in these tests takes longer.
const DEADLINE: Duration = Duration::from_secs(30);

/// What the fake does upon a request.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// A line; the response gets the request's id.
    Result(Value),
    /// A failure.
    Error(Value),
    /// A line as it is.
    Line(Value),
    /// Ends the connection.
    Close,
}

type Handler = dyn Fn(&Value) -> Vec<Reply> + Send + Sync;

/// Listens until the test ends; answers as its handler says.
pub(crate) struct Fake {
    folder: TempDir,
    requests: Arc<Mutex<Vec<Value>>>,
}

impl Fake {
    /// At `peerd.sock` in a folder of its own.
    pub(crate) fn new(handler: impl Fn(&Value) -> Vec<Reply> + Send + Sync + 'static) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("peerd.sock");
        Self::at(folder, &path, handler)
    }

    /// At a path below `folder`.
    pub(crate) fn at(
        folder: TempDir,
        path: &Path,
        handler: impl Fn(&Value) -> Vec<Reply> + Send + Sync + 'static,
    ) -> Self {
        let listener = UnixListener::bind(path).expect("a socket");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (log, handler): (_, Arc<Handler>) = (Arc::clone(&requests), Arc::new(handler));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (log, handler) = (Arc::clone(&log), Arc::clone(&handler));
                thread::spawn(move || serve(stream, &log, &*handler));
            }
        });
        Self { folder, requests }
    }

    /// Answers every request with one result.
    pub(crate) fn answering(result: Value) -> Self {
        Self::new(move |_| vec![Reply::Result(result.clone())])
    }

    /// Refuses every request.
    pub(crate) fn refusing(code: &str, details: Value) -> Self {
        let error = error(code, details);
        Self::new(move |_| vec![Reply::Error(error.clone())])
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("peerd.sock")
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The methods and params that came, in order.
    pub(crate) fn requests(&self) -> Vec<(String, Value)> {
        let requests = self.requests.lock().expect("no test panics with it");
        let split =
            |r: &Value| (r["method"].as_str().unwrap_or("").to_owned(), r["params"].clone());
        requests.iter().map(split).collect()
    }

    /// p2pctl with `--socket` and an empty environment.
    pub(crate) fn p2pctl(&self, args: &[&str]) -> Ran {
        self.p2pctl_with(args, "")
    }

    /// The same with text on stdin.
    pub(crate) fn p2pctl_with(&self, args: &[&str], stdin: &str) -> Ran {
        let mut command = p2pctl();
        command.arg("--socket").arg(self.socket()).args(args);
        run(command, stdin)
    }
}

fn serve(stream: UnixStream, log: &Mutex<Vec<Value>>, handler: &Handler) {
    let mut writer = stream.try_clone().expect("a handle");
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        let request: Value = serde_json::from_str(&line).expect("p2pctl writes JSON");
        assert_eq!(request["jsonrpc"], "2.0");
        log.lock().expect("no test panics with it").push(request.clone());
        for reply in handler(&request) {
            let line = match reply {
                Reply::Result(result) => json!({"id": request["id"], "result": result}),
                Reply::Error(error) => json!({"id": request["id"], "error": error}),
                Reply::Line(line) => line,
                Reply::Close => return drop(writer.shutdown(std::net::Shutdown::Both)),
            };
            let mut line = line;
            line["jsonrpc"] = "2.0".into();
            // p2pctl may be gone; that is its business.
            let _ = writer.write_all(format!("{line}\n").as_bytes());
        }
    }
}

/// An error object of the local API.
pub(crate) fn error(code: &str, details: Value) -> Value {
    let data = json!({"code": code, "retryable": false, "hint": "do this", "details": details});
    json!({"code": -32000, "message": "text of peerd", "data": data})
}

/// A message event from alice as a notification.
pub(crate) fn message(n: u64, body: &str) -> Reply {
    let params = json!({
        "n": n, "time": "2026-11-22T10:00:00.000Z", "type": "message", "from": "alice",
        "room": null, "id": format!("m{n}"), "body": body, "sent": "2026-11-22T10:00:00.000Z",
    });
    Reply::Line(json!({"method": "event", "params": params}))
}

/// The program with an empty environment.
pub(crate) fn p2pctl() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_p2pctl"));
    command.env_clear();
    command
}

/// How a call ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// The lines of stdout as JSON.
    pub(crate) fn json(&self) -> Vec<Value> {
        let parse = |line| serde_json::from_str(line).expect("JSON on stdout");
        self.stdout.lines().map(parse).collect()
    }

    /// The one line of stderr as JSON.
    pub(crate) fn error(&self) -> Value {
        assert_eq!(self.stderr.lines().count(), 1, "{}", self.stderr);
        serde_json::from_str(&self.stderr).expect("JSON on stderr")
    }
}

/// Runs a command to its end.
pub(crate) fn run(mut command: Command, stdin: &str) -> Ran {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("p2pctl starts");
    let mut pipe = child.stdin.take().expect("piped");
    // p2pctl may not read it.
    let _ = pipe.write_all(stdin.as_bytes());
    drop(pipe);
    let id = child.id();
    let (sender, ended) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait_with_output()));
    let output: Output = ended
        .recv_timeout(DEADLINE)
        .unwrap_or_else(|_| panic!("process {id} hangs"))
        .expect("it can be waited for");
    Ran {
        code: output.status.code().expect("no signal"),
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}
