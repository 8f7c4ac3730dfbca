//! The order of commits and effects, with a stand-in for the core.

use std::time::Duration;

use peerd_proto::{
    control::{Command, Event, EventKind, Outbox, OutboxAnswer, Status, Timestamp, Version},
    wire::{Frame, Goodbye},
};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    core::{Answer, CommandFailure, Effect, Input, LinkId, Now, Output, durable::Write},
    store,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// `Status` writes an event, sends a frame with its number and replies; `Version` sends a frame and replies
/// without a write; `Stop` stops. Event `twice` is written a second time, which the store refuses.
#[derive(Debug)]
struct Fake {
    n: u64,
    twice: u64,
    wake: Option<u64>,
    ticks: u64,
}

impl Machine for Fake {
    fn handle(&mut self, input: Input, now: Now) -> Output {
        let mut output = Output::default();
        match input {
            Input::Command { id, command } => {
                if let Command::Status(_) = command {
                    self.n += 1;
                    let n = if self.n == self.twice { 1 } else { self.n };
                    let time = Timestamp::from_ms(now.wall_ms);
                    output.writes.push(Write::Event(Event {
                        n,
                        time,
                        kind: EventKind::RegistryUp {},
                    }));
                }
                let frame = Frame::Goodbye(Goodbye::Stopping);
                output.effects.push(Effect::Send { link: LinkId(self.n), frame });
                let answer = Answer::Outbox(OutboxAnswer { messages: Vec::new() });
                output.effects.push(Effect::Reply { id, result: Ok(answer) });
            }
            Input::Tick => {
                self.ticks += 1;
                self.wake = (self.ticks < 3).then_some(now.mono_ms + 1);
                let frame = Frame::Goodbye(Goodbye::Stopping);
                output.effects.push(Effect::Send { link: LinkId(1000 + self.ticks), frame });
            }
            Input::Stop => output.effects.push(Effect::Stopped),
            _ => {}
        }
        output
    }

    fn next_wake(&self) -> Option<u64> {
        self.wake
    }

    fn look(&self, command: &Command) -> Option<Result<Answer, CommandFailure>> {
        let answer = Answer::Outbox(OutboxAnswer { messages: Vec::new() });
        matches!(command, Command::Outbox(_)).then_some(Ok(answer))
    }
}

struct Running {
    api: Api,
    handle: Handle,
    store: Store,
    doors: DoorReceivers,
    tasks: JoinSet<Option<Result<(), DaemonError>>>,
    _folder: tempfile::TempDir,
}

fn start(twice: u64, wake: Option<u64>) -> Running {
    let folder = tempfile::tempdir().expect("a folder");
    let opened = store::open(&folder.path().join("peerd.db"), true).expect("a store");
    let (doors, receivers) = Doors::new();
    let (handle, inputs) = Handle::new();
    let machine = Fake { n: 0, twice, wake, ticks: 0 };
    let parts = (handle.clone(), inputs);
    let daemon = Daemon::new((machine, Output::default()), 0, opened.store.clone(), doors, parts);
    let mut tasks = JoinSet::new();
    let (owner, release) = (daemon.owner, daemon.release);
    tasks.spawn(async {
        owner.run().await;
        None
    });
    tasks.spawn(async { Some(release.run().await) });
    Running {
        api: daemon.api,
        handle,
        store: opened.store,
        doors: receivers,
        tasks,
        _folder: folder,
    }
}

async fn end(mut tasks: JoinSet<Option<Result<(), DaemonError>>>) -> Result<(), DaemonError> {
    let mut verdict = None;
    while let Some(ended) =
        tokio::time::timeout(PATIENCE, tasks.join_next()).await.expect("in time")
    {
        verdict = verdict.or(ended.expect("no panic"));
    }
    verdict.expect("the release says why")
}

#[tokio::test]
async fn nothing_is_done_before_what_it_rests_on_is_on_disk() {
    let Running { api, handle, store, mut doors, tasks, _folder } = start(0, None);
    let clients = (0..200_u64).map(|i| {
        let api = api.clone();
        tokio::spawn(async move {
            let command =
                if i % 2 == 0 { Command::from(Status {}) } else { Command::from(Version {}) };
            api.command(command, &CancellationToken::new()).await.expect("waits").expect("done");
        })
    });
    let clients: Vec<_> = clients.collect();
    let mut last = 0;
    for _ in 0..200 {
        let command = tokio::time::timeout(PATIENCE, doors.links.recv()).await.expect("in time");
        let Some(LinksCommand::Send { link, .. }) = command else { panic!("{command:?}") };
        assert!(link.0 >= last, "effects keep their order");
        last = link.0;
        let head = store.events(0).await.expect("read").head;
        assert!(head >= link.0, "frame {} left when only {head} was on disk", link.0);
    }
    for client in clients {
        client.await.expect("answered");
    }
    assert_eq!(*api.head().borrow(), 100);
    handle.send(Input::Stop).await.expect("runs");
    end(tasks).await.expect("a clean stop");
}

#[tokio::test]
async fn a_commit_that_fails_ends_the_daemon_and_nothing_behind_it_is_told() {
    let Running { api, mut doors, tasks, _folder, .. } = start(3, None);
    for _ in 0..2 {
        let done = api.command(Status {}.into(), &CancellationToken::new()).await.expect("waits");
        done.expect("committed");
    }
    let failed = api.command(Status {}.into(), &CancellationToken::new()).await.expect("waits");
    let failed = failed.expect_err("its event cannot be written");
    assert_eq!(failed.code, registryd_proto::Code::PeerdNotRunning);
    assert!(failed.message.contains("its state cannot be written"), "{}", failed.message);
    assert!(matches!(end(tasks).await, Err(DaemonError::Store(_))));
    let mut sent = 0;
    while doors.links.recv().await.is_some() {
        sent += 1;
    }
    assert_eq!(sent, 2, "the third frame never left");
}

async fn ask(api: &Api, command: impl Into<Command>) -> Result<Answer, CommandFailure> {
    let gone = CancellationToken::new();
    let asked = api.command(command.into(), &gone);
    tokio::time::timeout(PATIENCE, asked).await.expect("answered").expect("waits")
}

#[tokio::test]
async fn a_full_disk_refuses_what_writes_answers_what_looks_and_goes_on_by_itself() {
    let Running { api, handle, store, mut doors, tasks, _folder } = start(0, None);
    ask(&api, Status {}).await.expect("there is space");
    store.set_space(1).await;
    // The pages that are there take some more events.
    let unknown = loop {
        if let Err(failure) = ask(&api, Status {}).await {
            break failure;
        }
    };
    assert_eq!(unknown.code, registryd_proto::Code::TimedOut);
    assert!(unknown.message.contains("it is not known"), "{unknown:?}");
    let committed = *api.head().borrow();
    for _ in 0..100 {
        let refused = ask(&api, Status {}).await.expect_err("nothing is taken");
        assert_eq!(refused.code, registryd_proto::Code::RateLimited);
        assert!(refused.message.contains("was not done"), "{refused:?}");
    }
    ask(&api, Outbox {}).await.expect("looking goes on");
    assert_eq!(api.events(0).await.expect("reading goes on").head, committed);
    let mut sent = 0;
    while let Ok(command) = doors.links.try_recv() {
        let LinksCommand::Send { link, .. } = command else { panic!("{command:?}") };
        sent = sent.max(link.0);
    }
    assert_eq!(sent, committed, "nothing left that is not on the disk");

    store.set_space(1_000_000).await;
    let mut disk = api.disk();
    let ready = disk.wait_for(|disk| *disk == Disk::Ready);
    tokio::time::timeout(PATIENCE, ready).await.expect("in time").expect("the writer runs");
    ask(&api, Status {}).await.expect("done");
    // The one that was under way was done after all; those that were refused were not.
    assert_eq!(*api.head().borrow(), committed + 2);
    handle.send(Input::Stop).await.expect("runs");
    end(tasks).await.expect("a clean stop");
}

#[tokio::test]
async fn ticks_come_when_the_machine_wants_them() {
    let Running { mut doors, tasks: _tasks, .. } = start(0, Some(0));
    for tick in 1..=3 {
        let command = tokio::time::timeout(PATIENCE, doors.links.recv()).await.expect("in time");
        let Some(LinksCommand::Send { link, .. }) = command else { panic!("{command:?}") };
        assert_eq!(link, LinkId(1000 + tick));
    }
}
