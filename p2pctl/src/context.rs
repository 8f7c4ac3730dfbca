//! What every verb gets: the global options, the way to peerd with its deadline, and the output.

use std::{future::Future, time::Duration};

use peerd_proto::control::Verb;

use crate::{
    cli::Global, client::Connection, error::Error, exit::Exit, output::Output, show::Show,
    socket::Surroundings,
};

/// How long a verb waits for peerd without `--timeout`.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// What peerd gets on top where it counts the time itself, so that its own answer comes first.
pub const GRACE: Duration = Duration::from_secs(5);

/// One call of p2pctl.
#[derive(Debug)]
pub struct Context<'a> {
    /// The options before the verb.
    pub global: Global,
    /// stdout and stderr.
    pub output: &'a mut Output,
}

impl<'a> Context<'a> {
    /// Wraps the parts.
    pub fn new(global: Global, output: &'a mut Output) -> Self {
        Self { global, output }
    }

    /// `--timeout`, or 30 s.
    pub fn timeout(&self) -> Duration {
        self.global.timeout.unwrap_or(TIMEOUT)
    }

    /// Connects to peerd. The caller sets the deadline.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub async fn connect(&self) -> Result<Connection, Error> {
        let surroundings =
            Surroundings::of_process(self.global.socket.clone(), self.global.profile.clone())?;
        Ok(Connection::new(surroundings.connect().await?))
    }

    /// Connects, asks and waits at most `--timeout`.
    ///
    /// # Errors
    /// Any but those of output.
    pub async fn call<V: Verb>(&self, verb: V) -> Result<V::Answer, Error> {
        self.call_within(self.timeout(), verb).await
    }

    /// As [`Context::call`], with a deadline of its own.
    ///
    /// # Errors
    /// Any but those of output.
    pub async fn call_within<V: Verb>(&self, limit: Duration, verb: V) -> Result<V::Answer, Error> {
        within(limit, async { Ok(self.connect().await?.call(verb).await?) }).await
    }

    /// The whole of a verb that asks once and prints the answer.
    ///
    /// # Errors
    /// Any.
    pub async fn simple<V: Verb<Answer: Show>>(&mut self, verb: V) -> Result<Exit, Error> {
        let answer = self.call(verb).await?;
        self.output.answer(&answer)?;
        Ok(Exit::Done)
    }
}

/// Runs `work` for at most `limit`.
///
/// # Errors
/// [`Error::Deadline`], or that of `work`.
pub async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::time::timeout(limit, work).await.unwrap_or(Err(Error::Deadline(limit)))
}
