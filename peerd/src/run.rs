//! From the settings to a daemon that serves, and from a signal to its end.
//!
//! Order of a start: lock, socket, database, keys, then tasks; ready is told when the control socket is
//! served and the first resume is under way. Order of a stop: no new work, goodbyes, links and clients
//! closed, the store flushed, then the lock is free.

use std::{future::Future, io, os::unix::net::UnixListener, panic, thread, time::Duration};

use listenfd::ListenFd;
use p2pchat_host::process;
use peerd_proto::control::Command;
use registryd_proto::Card;
use sd_notify::NotifyState;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::{
    config::Settings,
    control::{self, SocketFile},
    core::{Answer, CommandFailure, Config, Core, Input, Now, Output, durable::Snapshot},
    daemon::{self, Daemon, DaemonError, Doors, Handle, Machine},
    daemonize::Report,
    error::{RunError, StartError},
    instance::Instance,
    keys::Keys,
    link, peer, registry, room,
    shutdown::{self, Signals},
    store::{self, Disk, Store},
};

/// The database's file in the data folder.
const DATABASE: &str = "peerd.db";
/// How long goodbyes may take.
const GOODBYES: Duration = Duration::from_secs(2);
/// How long tasks may take to end behind the goodbyes.
const TASKS: Duration = Duration::from_millis(1500);
/// How long the rest may take: with the others, below the 5 s of the contract.
const RUNTIME: Duration = Duration::from_millis(500);

impl Machine for Core {
    fn handle(&mut self, input: Input, now: Now) -> Output {
        Core::handle(self, input, now)
    }

    fn next_wake(&self) -> Option<u64> {
        Core::next_wake(self)
    }

    fn look(&self, command: &Command) -> Option<Result<Answer, CommandFailure>> {
        Core::look(self, command)
    }
}

/// All that a daemon needs, opened and checked.
struct Opened {
    listener: UnixListener,
    keys: Keys,
    store: Store,
    snapshot: Snapshot,
    seed: [u8; 32],
    // Dropped in this order: the socket goes before the lock.
    socket: Option<SocketFile>,
    instance: Instance,
    writer: thread::JoinHandle<()>,
}

/// Starts, serves and stops. Blocks for the daemon's life.
///
/// # Errors
/// [`StartError`] before it is ready, told by `report`; [`RunError`] inside the result after that.
pub fn run(settings: &Settings, report: Report) -> Result<Result<(), RunError>, StartError> {
    process::set_limits_of_daemon();
    let started = open(settings).and_then(|opened| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(StartError::Runtime)?;
        Ok((opened, runtime))
    });
    let (opened, runtime) = match started {
        Ok(started) => started,
        Err(error) => {
            report.failed(&error);
            return Err(error);
        }
    };
    let Opened { listener, keys, store, snapshot, seed, socket, instance, writer } = opened;
    let parts = Parts { listener, keys, store, snapshot, seed };
    let result = runtime.block_on(serve(settings, parts, report));
    runtime.shutdown_timeout(RUNTIME);
    // After a failed commit the writer has ended; else it ends when the last handle is dropped, above.
    if result.is_ok() && writer.join().is_err() {
        tracing::error!("the store's thread panicked");
    }
    drop(socket);
    drop(instance);
    Ok(result)
}

fn open(settings: &Settings) -> Result<Opened, StartError> {
    let instance = Instance::acquire(&settings.data_dir)?;
    let (listener, socket) = listener(settings)?;
    let first_start = !Keys::exist(&settings.data_dir);
    let store = store::open(&settings.data_dir.join(DATABASE), first_start)?;
    let keys = Keys::load_or_create(&settings.data_dir)?;
    check_owner(&keys, &store.snapshot)?;
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|_| StartError::Randomness)?;
    let store::Opened { store, snapshot, writer } = store;
    Ok(Opened { listener, keys, store, snapshot, seed, socket, instance, writer })
}

/// The database names the key that the account is bound to: with another one, nothing would fit.
fn check_owner(keys: &Keys, snapshot: &Snapshot) -> Result<(), StartError> {
    let Some(profile) = &snapshot.profile else { return Ok(()) };
    let Some(registry) = &profile.registry.key else { return Ok(()) };
    match Card::open(&profile.card, registry) {
        Ok(card) if card.binding.peer_key != keys.peer.public() => Err(StartError::ForeignKeys),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// The socket that systemd passes, else our own.
fn listener(settings: &Settings) -> Result<(UnixListener, Option<SocketFile>), StartError> {
    if let Some(passed) = ListenFd::from_env().take_unix_listener(0).map_err(StartError::Passed)? {
        return Ok((passed, None));
    }
    let (listener, file) = SocketFile::bind(&settings.socket)?;
    Ok((listener, Some(file)))
}

struct Parts {
    listener: UnixListener,
    keys: Keys,
    store: Store,
    snapshot: Snapshot,
    seed: [u8; 32],
}

/// How a task ended.
enum Ended {
    Release(Result<(), DaemonError>),
    Other(&'static str),
    Control(io::Result<()>),
    /// The disk has not answered for so long.
    Hung(Duration),
}

async fn serve(settings: &Settings, parts: Parts, report: Report) -> Result<(), RunError> {
    let mut signals = Signals::new().map_err(RunError::Signals)?;
    let mut panics = catch_panics();
    let stop = CancellationToken::new();
    let mut disk = parts.store.disk();
    let (handle, mut tasks) = spawn(settings, parts, &stop);
    shutdown::notify(&[NotifyState::Ready]);
    tracing::info!(profile = settings.profile, "ready");
    report.ready();

    let result = tokio::select! {
        () = signals.stop() => Ok(()),
        _ = panics.recv() => Err(RunError::Panic),
        ended = tasks.join_next() => Err(too_early(ended)),
    };
    shutdown::notify(&[NotifyState::Stopping]);
    let result = match result {
        Ok(()) => tokio::select! {
            biased;
            // Nothing is said that rests on what cannot be written.
            () = full(&mut disk) => Ok(()),
            said = goodbyes(&handle, &mut tasks) => said,
            () = signals.stop() => Ok(()),
            _ = panics.recv() => Err(RunError::Panic),
        },
        failed => failed,
    };
    stop.cancel();
    drop(handle);
    if *disk.borrow() == Disk::Full {
        // They wait for space.
        tasks.shutdown().await;
    }
    let all = async { while tasks.join_next().await.is_some() {} };
    if timeout(TASKS, all).await.is_err() {
        tracing::warn!("some tasks did not end in time");
        tasks.shutdown().await;
    }
    result
}

/// Waits until the disk is full.
async fn full(disk: &mut watch::Receiver<Disk>) {
    if disk.wait_for(|disk| *disk == Disk::Full).await.is_err() {
        std::future::pending().await
    }
}

/// Every task of the daemon; each has a span and ends with `stop`, or when what it serves is gone.
fn spawn(settings: &Settings, parts: Parts, stop: &CancellationToken) -> (Handle, JoinSet<Ended>) {
    let Parts { listener, keys, store, snapshot, seed } = parts;
    let head = snapshot.event_head;
    let config = Config {
        max_active_chats: usize::try_from(settings.max_active_chats).unwrap_or(usize::MAX),
        ..Config::default()
    };
    let (core, first) = Core::new(keys.clone(), config, snapshot, seed, daemon::now());
    let (doors, receivers) = Doors::new();
    let (handle, inputs) = Handle::new();
    let daemon = Daemon::new((core, first), head, store, doors, (handle.clone(), inputs));
    let Daemon { owner, release, api } = daemon;

    let mut tasks = JoinSet::new();
    let (peer, room) = (peer::listener(&keys), room::listener(&keys));
    let links = link::run(peer, room, handle.clone(), receivers.links);
    tasks.spawn(links.instrument(tracing::info_span!("links")).named("links"));
    let client = registry::run(keys.peer, handle.clone(), receivers.registry);
    tasks.spawn(client.instrument(tracing::info_span!("registry")).named("registry"));
    tasks.spawn(owner.run().instrument(tracing::info_span!("owner")).named("owner"));
    let release = release.run().instrument(tracing::info_span!("release"));
    tasks.spawn(async { Ended::Release(release.await) });
    let control = control::run(listener, api.clone(), stop.clone());
    let control = control.instrument(tracing::info_span!("control"));
    tasks.spawn(async { Ended::Control(control.await) });
    let (watched, limit, stopped) = (api.clone(), settings.hang_limit, stop.clone());
    tasks.spawn(async move {
        // It holds a way to the owner, which does not end while anybody does.
        tokio::select! {
            () = shutdown::hung(watched, limit) => Ended::Hung(limit),
            () = stopped.cancelled() => Ended::Other("watch"),
        }
    });
    if std::env::var_os("NOTIFY_SOCKET").is_some() {
        let status = shutdown::report(api, stop.clone());
        tasks.spawn(status.instrument(tracing::info_span!("status")).named("status"));
    }
    (handle, tasks)
}

/// Names the end of a task.
trait Named: Future<Output = ()> + Sized {
    fn named(self, name: &'static str) -> impl Future<Output = Ended> {
        async move {
            self.await;
            Ended::Other(name)
        }
    }
}

impl<F: Future<Output = ()>> Named for F {}

/// Waits until the core has said all goodbyes, for a bounded time.
async fn goodbyes(handle: &Handle, tasks: &mut JoinSet<Ended>) -> Result<(), RunError> {
    let said = async {
        if handle.send(Input::Stop).await.is_err() {
            return Ok(());
        }
        loop {
            match tasks.join_next().await {
                Some(Ok(Ended::Release(result))) => return result.map_err(RunError::from),
                // The owner ends behind the release, and may be seen first.
                Some(Ok(Ended::Other(_) | Ended::Control(_))) => {}
                Some(Ok(Ended::Hung(limit))) => return Err(RunError::Hung(limit)),
                Some(Err(_)) => return Err(RunError::Panic),
                None => return Ok(()),
            }
        }
    };
    match timeout(GOODBYES, said).await {
        Ok(result) => result,
        Err(_) => {
            tracing::warn!("not all goodbyes were said in time");
            Ok(())
        }
    }
}

fn too_early(ended: Option<Result<Ended, tokio::task::JoinError>>) -> RunError {
    match ended {
        Some(Ok(Ended::Release(Err(error)))) => RunError::Daemon(error),
        Some(Ok(Ended::Release(Ok(())))) => RunError::TaskEnded("release"),
        Some(Ok(Ended::Hung(limit))) => RunError::Hung(limit),
        Some(Ok(Ended::Other(name))) => RunError::TaskEnded(name),
        Some(Ok(Ended::Control(result))) => {
            if let Err(error) = result {
                tracing::error!(%error, "the control socket cannot be served");
            }
            RunError::TaskEnded("control")
        }
        Some(Err(_)) => RunError::Panic,
        None => RunError::TaskEnded("all"),
    }
}

/// Any panic, in whatever task or thread, ends the daemon: a half of it is worse than a restart. Only the
/// place is logged: the text could hold a message's body.
fn catch_panics() -> mpsc::Receiver<()> {
    let (sender, receiver) = mpsc::channel(1);
    panic::set_hook(Box::new(move |info| {
        let place = info.location().map(ToString::to_string);
        tracing::error!(place, "a panic: a fault of peerd");
        if sender.try_send(()).is_err() {
            tracing::debug!("the end is under way already");
        }
    }));
    receiver
}
