//! Signals, and what systemd is told.
//!
//! SIGTERM and SIGINT stop peerd cleanly; a second one does not wait for goodbyes. SIGHUP is ignored: a
//! terminal that closes takes nobody's daemon with it.

use std::{io, time::Duration};

use peerd_proto::control::{SessionState, Status};
use sd_notify::NotifyState;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::MissedTickBehavior,
};
use tokio_util::sync::CancellationToken;

use crate::{
    core::Answer,
    daemon::{Api, Watch},
};

/// How often the state is told to systemd where it sets no pace.
const STATUS_INTERVAL: Duration = Duration::from_secs(10);

/// How many looks the limit of a disk that hangs is divided into.
const HUNG_LOOKS: u32 = 10;

/// The signals that peerd knows.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Takes them over from the defaults.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for one that means stop. Cancel safe.
    pub async fn stop(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => tracing::debug!("SIGHUP is ignored"),
            }
        }
    }
}

/// Tells systemd, if it listens.
pub fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd cannot be told");
    }
}

/// Tells systemd the session's state, and that peerd is alive: each time by a command that goes through the
/// owner and back, and by a look at the writer. A daemon that does not answer is not alive, nor is one whose
/// disk has been at one and the same commit for two looks.
pub async fn report(api: Api, stop: CancellationToken) {
    let pace = sd_notify::watchdog_enabled().map(|limit| limit / 3);
    let mut timer = tokio::time::interval(pace.unwrap_or(STATUS_INTERVAL).min(STATUS_INTERVAL));
    let mut told = None;
    let mut watch = Watch::default();
    loop {
        tokio::select! {
            _ = timer.tick() => {}
            () = stop.cancelled() => return,
        }
        let Some(Ok(Answer::Status(status))) = api.command(Status {}.into(), &stop).await else {
            continue;
        };
        if api.looks_at_work(&mut watch) < 2 && pace.is_some() {
            notify(&[NotifyState::Watchdog]);
        }
        let state = (status.session, status.disk_full);
        if told != Some(state) {
            told = Some(state);
            let line =
                if status.disk_full { "waits: the disk is full" } else { line(status.session) };
            notify(&[NotifyState::Status(line)]);
        }
    }
}

/// Ends when the disk has been at one and the same commit for `limit`: nothing can be done about it from
/// here, and whoever watches over the process starts it anew. Time in which the process was stopped counts
/// little.
pub async fn hung(api: Api, limit: Duration) {
    let mut timer = tokio::time::interval(limit / HUNG_LOOKS);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watch = Watch::default();
    loop {
        timer.tick().await;
        // The first look sees the work for the first time.
        if api.looks_at_work(&mut watch) > HUNG_LOOKS {
            return;
        }
    }
}

fn line(session: SessionState) -> &'static str {
    match session {
        SessionState::Online => "online",
        SessionState::Offline => "logged in; the registry does not answer",
        SessionState::LoggedOut => "logged out",
        SessionState::Superseded => "another device has taken over the account",
    }
}
