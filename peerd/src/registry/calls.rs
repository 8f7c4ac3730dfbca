//! Calls to one registry: one task that opens a connection when there is something to ask, and closes it
//! when there is nothing more, so that an idle peer costs the registry no connection.
//!
//! Requests are written without waiting for the replies before them; the registry answers in order.
//!
//! Invariant: each call is answered exactly once, in the order in which they came.

use std::{collections::VecDeque, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use registryd_proto::{
    Answer, Code, Failure, Keypair, RegistryAddress, Request,
    frame::{self, Kind},
};
use tokio::{
    io::AsyncWriteExt as _,
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};

use super::connect::{Connection, connect};
use crate::{
    core::{CallId, Input, input::CallFailure},
    daemon::{Gone, Handle},
};

/// An unused connection stays open for so long: a user's next command may come.
const IDLE: Duration = Duration::from_secs(2);
/// From a request written to its reply.
const REQUEST: Duration = Duration::from_secs(20);
/// For the registry to take a request, and to hear that the connection closes.
const WRITE: Duration = Duration::from_secs(5);
/// Requests without a reply on one connection.
const PIPELINE_MAX: usize = 16;

/// One request.
#[derive(Debug)]
pub(super) struct Job {
    /// Whose reply it is.
    pub(super) call: CallId,
    /// What is asked.
    pub(super) request: Request,
}

/// Why a connection is given up.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("it was idle")]
    Idle,
    #[error("the daemon asks nothing more")]
    Done,
    #[error("the registry closed it")]
    Closed,
    #[error("it broke: {0}")]
    Io(#[from] std::io::Error),
    #[error("a reply did not come in time")]
    Late,
    #[error("a reply without a request")]
    Unasked,
    #[error("a reply cannot be read: {0}")]
    Reply(#[from] frame::FrameError),
    #[error(transparent)]
    Daemon(#[from] Gone),
}

/// The task of one registry.
#[derive(Debug)]
pub(super) struct Calls {
    /// Where, and which key it must show.
    pub(super) registry: RegistryAddress,
    /// Who we are.
    pub(super) keys: Keypair,
    /// Where replies go.
    pub(super) handle: Handle,
    /// What is to be asked.
    pub(super) jobs: mpsc::Receiver<Job>,
}

impl Calls {
    /// Runs until the other end of `jobs` is dropped and all calls are answered.
    pub(super) async fn run(mut self) {
        while let Some(first) = self.jobs.recv().await {
            let served = match connect(&self.registry, &self.keys).await {
                Ok(connection) => self.serve(connection, first).await,
                Err(error) => {
                    tracing::info!(registry = %self.registry, %error, "no registry");
                    self.refuse(first, &error.failure()).await
                }
            };
            if served.is_err() {
                return;
            }
        }
    }

    /// Those that wait already would fail as the first did, each after another time-out.
    async fn refuse(&mut self, first: Job, failure: &CallFailure) -> Result<(), Gone> {
        let mut next = Some(first);
        while let Some(Job { call, .. }) = next {
            self.report(call, failure.clone()).await?;
            next = self.jobs.try_recv().ok();
        }
        Ok(())
    }

    async fn serve(&mut self, mut connection: Connection, first: Job) -> Result<(), Gone> {
        let mut waiting = VecDeque::new();
        let broken = match self.ask(&mut connection, &mut waiting, first).await {
            Ok(()) => self.converse(&mut connection, &mut waiting).await,
            Err(broken) => broken,
        };
        let registry = &self.registry;
        match broken {
            Broken::Daemon(gone) => return Err(gone),
            Broken::Idle | Broken::Done => {
                tracing::trace!(%registry, "connection closed: {broken}");
                // Best effort: the registry sees the end of the stream in any case.
                let _ = timeout(WRITE, connection.writer.get_mut().shutdown()).await;
            }
            broken => {
                tracing::info!(%registry, unanswered = waiting.len(), %broken, "registry lost")
            }
        }
        for (call, _) in waiting {
            self.report(call, CallFailure::Unreachable).await?;
        }
        Ok(())
    }

    async fn converse(&mut self, connection: &mut Connection, waiting: &mut Waiting) -> Broken {
        loop {
            let deadline = waiting.front().map_or(Instant::now() + IDLE, |(_, deadline)| *deadline);
            // A connection that is closed already is seen before a request is written to it.
            let step = tokio::select! {
                biased;
                frame = connection.reader.next() => match frame {
                    Some(Ok(frame)) => self.answer(connection, waiting, &frame).await,
                    Some(Err(error)) => Err(error.into()),
                    None => Err(Broken::Closed),
                },
                job = self.jobs.recv(), if waiting.len() < PIPELINE_MAX => match job {
                    Some(job) => self.ask(connection, waiting, job).await,
                    None if waiting.is_empty() => Err(Broken::Done),
                    None => self.finish(connection, waiting).await,
                },
                () = sleep_until(deadline) => {
                    Err(if waiting.is_empty() { Broken::Idle } else { Broken::Late })
                }
            };
            if let Err(broken) = step {
                return broken;
            }
        }
    }

    /// No more requests: takes the replies that are due.
    async fn finish(
        &self,
        connection: &mut Connection,
        waiting: &mut Waiting,
    ) -> Result<(), Broken> {
        while let Some((_, deadline)) = waiting.front() {
            let next = tokio::time::timeout_at(*deadline, connection.reader.next()).await;
            let frame = next.map_err(|_| Broken::Late)?.ok_or(Broken::Closed)??;
            self.answer(connection, waiting, &frame).await?;
        }
        Err(Broken::Done)
    }

    async fn ask(
        &self,
        connection: &mut Connection,
        waiting: &mut Waiting,
        job: Job,
    ) -> Result<(), Broken> {
        let json = match frame::encode(Kind::Request, &job.request) {
            Ok(json) => json,
            Err(error) => {
                let failure = Failure::new(Code::Usage, error.to_string());
                return Ok(self.report(job.call, CallFailure::Failed(failure)).await?);
            }
        };
        waiting.push_back((job.call, Instant::now() + REQUEST));
        timeout(WRITE, connection.writer.send(json)).await.map_err(|_| Broken::Late)??;
        Ok(())
    }

    async fn answer(
        &self,
        connection: &Connection,
        waiting: &mut Waiting,
        frame: &[u8],
    ) -> Result<(), Broken> {
        if waiting.is_empty() {
            return Err(Broken::Unasked);
        }
        let answer = frame::decode(frame)?;
        let Some((call, _)) = waiting.pop_front() else { return Err(Broken::Unasked) };
        let result = match answer {
            Answer::Ok(reply) => Ok((connection.key, reply)),
            Answer::Error(failure) => Err(CallFailure::Failed(failure)),
        };
        Ok(self.handle.send(Input::Registry { call, result }).await?)
    }

    async fn report(&self, call: CallId, failure: CallFailure) -> Result<(), Gone> {
        self.handle.send(Input::Registry { call, result: Err(failure) }).await
    }
}

/// Calls without a reply, oldest first, each with the time when it is given up.
type Waiting = VecDeque<(CallId, Instant)>;
