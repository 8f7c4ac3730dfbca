//! One connection of a local client: lines in, tasks for requests, lines out.
//!
//! Invariant: each request with an id gets exactly one response, in whatever order, unless the connection is
//! gone; then its open commands are given up at the core.

use std::{future::Future, time::Duration};

use peerd_proto::control::{Command, ListenAnswer, VersionAnswer};
use registryd_proto::Code;
use serde_json::Value;
use tokio::{
    io::{AsyncWriteExt as _, Interest},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    history,
    line::Lines,
    listen,
    rpc::{self, Asked},
    value,
};
use crate::{core::CommandFailure, daemon::Api};

/// How many requests of one connection are open at a time; more are refused.
const REQUESTS_MAX: usize = 64;
/// How many lines wait for the writer: with the largest lines, a reader's share of memory.
const LINES_MAX: usize = 8;
/// How long a client may take to read one line.
const WRITE: Duration = Duration::from_secs(10);
/// How often a client that has closed its sending half is looked after.
const HALF_CLOSED: Duration = Duration::from_millis(500);

/// The connection is cut: nothing can be written any more.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the client is gone")]
pub(super) struct Cut;

enum Outgoing {
    Line(Vec<u8>),
    Mark(oneshot::Sender<()>),
}

/// Lines to the client.
#[derive(Clone)]
pub(super) struct Outbox {
    lines: mpsc::Sender<Outgoing>,
}

impl Outbox {
    /// Queues a line; waits while the client is behind.
    pub(super) async fn send(&self, line: Vec<u8>) -> Result<(), Cut> {
        self.lines.send(Outgoing::Line(line)).await.map_err(|_| Cut)
    }

    /// Waits until all lines before are written.
    pub(super) async fn written(&self) -> Result<(), Cut> {
        let (mark, marked) = oneshot::channel();
        self.lines.send(Outgoing::Mark(mark)).await.map_err(|_| Cut)?;
        marked.await.map_err(|_| Cut)
    }
}

/// Serves a client until it is gone, misbehaves, or `stop` is cancelled.
pub(super) async fn serve(stream: UnixStream, api: Api, stop: CancellationToken) {
    let (reader, writer) = stream.into_split();
    let (lines, receiver) = mpsc::channel(LINES_MAX);
    let gone = stop.child_token();
    let mut tasks = JoinSet::new();
    tasks.spawn(write(writer, receiver, gone.clone()));
    let mut client = Client {
        api,
        outbox: Outbox { lines },
        gone: gone.clone(),
        requests: JoinSet::new(),
        listening: false,
    };
    let mut lines = Lines::new(reader);
    let over = tokio::select! {
        over = client.read(&mut lines) => over,
        () = gone.cancelled() => Over::Gone,
    };
    if let Over::HalfClosed = over {
        client.finish(lines.get_ref()).await;
    }
    gone.cancel();
    // Requests end by themselves once the client is gone: they still have to tell the core.
    while client.requests.join_next().await.is_some() {}
    drop(client);
    while tasks.join_next().await.is_some() {}
}

/// How reading ended.
enum Over {
    Gone,
    HalfClosed,
}

struct Client {
    api: Api,
    outbox: Outbox,
    gone: CancellationToken,
    requests: JoinSet<()>,
    listening: bool,
}

impl Client {
    async fn read(&mut self, lines: &mut Lines<OwnedReadHalf>) -> Over {
        loop {
            let line = match lines.next().await {
                Ok(Some(line)) => line,
                Ok(None) => return Over::HalfClosed,
                Err(error) => {
                    tracing::debug!(%error, "a client is cut");
                    let failure = CommandFailure::new(Code::Usage, error.to_string());
                    let line = rpc::response(Value::Null, Err(rpc::from_failure(failure)));
                    if self.outbox.send(line).await.is_ok() {
                        // Whether the client reads it is its own affair.
                        let _cut = self.outbox.written().await.is_err();
                    }
                    return Over::Gone;
                }
            };
            while self.requests.try_join_next().is_some() {}
            let refused = match rpc::parse(&line) {
                Ok(asked) => self.begin(asked),
                Err(response) => Some(rpc::line(&response)),
            };
            drop(line);
            if let Some(line) = refused
                && self.outbox.send(line).await.is_err()
            {
                return Over::Gone;
            }
        }
    }

    /// Begins a request as a task of its own, or refuses it.
    fn begin(&mut self, Asked { id, command }: Asked) -> Option<Vec<u8>> {
        let refuse = |id, code, message| {
            let failure = CommandFailure::new(code, message);
            Some(rpc::response(id, Err(rpc::from_failure(failure))))
        };
        if self.requests.len() >= REQUESTS_MAX {
            return refuse(id, Code::RateLimited, "too many requests of this connection are open");
        }
        let (api, outbox, gone) = (self.api.clone(), self.outbox.clone(), self.gone.clone());
        if let Command::Listen(params) = command {
            if std::mem::replace(&mut self.listening, true) {
                return refuse(id, Code::Conflict, "this connection listens already");
            }
            let cut = gone.clone();
            self.requests.spawn(until(gone, async move {
                if let Err(error) = listen::run(id, params, &api, &outbox).await {
                    tracing::debug!(%error, "a listener ends");
                    // It would wait for ever for events that do not come.
                    cut.cancel();
                }
            }));
        } else {
            self.requests.spawn(async move {
                if let Some(outcome) = answer(command, &api, &gone).await
                    && outbox.send(rpc::response(id, outcome)).await.is_err()
                {
                    tracing::debug!("a client did not wait for its answer");
                }
            });
        }
        None
    }

    /// The client sends no more, but may still read: `echo … | nc -U` does so.
    async fn finish(&mut self, reader: &OwnedReadHalf) {
        loop {
            let closed = reader.ready(Interest::WRITABLE).await;
            if closed.is_ok_and(|ready| ready.is_write_closed()) {
                return;
            }
            tokio::select! {
                done = self.requests.join_next() => if done.is_none() {
                    // A client that is cut waits for nothing.
                    let _cut = self.outbox.written().await.is_err();
                    return;
                },
                () = self.gone.cancelled() => return,
                () = tokio::time::sleep(HALF_CLOSED) => {}
            }
        }
    }
}

/// The outcome of any verb but `listen`; `None` once the client is gone.
async fn answer(
    command: Command,
    api: &Api,
    gone: &CancellationToken,
) -> Option<Result<Value, peerd_proto::control::RpcError>> {
    match command {
        Command::Version(_) => Some(Ok(value(&VersionAnswer {
            peerd: env!("CARGO_PKG_VERSION").to_owned(),
            api: peerd_proto::control::API_VERSION,
        }))),
        Command::History(params) => Some(history::run(params, api).await),
        Command::Ack(params) => {
            if let Err(failure) = listen::consumer_name(&params.consumer) {
                return Some(Err(rpc::from_failure(failure)));
            }
            let acked = api.consumer(params.consumer, Some(params.n)).await;
            let head = *api.head().borrow();
            let answer = ListenAnswer { log: api.log().to_owned(), head };
            Some(acked.map(|_| value(&answer)).map_err(|error| rpc::from_store(&error)))
        }
        other => {
            let outcome = api.command(other, gone).await?;
            Some(outcome.map(|answer| value(&answer)).map_err(rpc::from_failure))
        }
    }
}

async fn until(gone: CancellationToken, work: impl Future<Output = ()>) {
    tokio::select! {
        () = work => {}
        () = gone.cancelled() => {}
    }
}

async fn write(
    mut writer: OwnedWriteHalf,
    mut lines: mpsc::Receiver<Outgoing>,
    gone: CancellationToken,
) {
    while let Some(next) = lines.recv().await {
        match next {
            Outgoing::Mark(mark) => {
                // Who asked may be gone.
                let _gone = mark.send(()).is_err();
            }
            Outgoing::Line(line) => match timeout(WRITE, writer.write_all(&line)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => break,
                Err(_) => {
                    tracing::info!("a client that does not read is cut");
                    break;
                }
            },
        }
    }
    gone.cancel();
}
