//! The registry's door: requests over TLS, and HELLO.
//!
//! [`run`] is the registry's task. It hands [`RegistryCommand`]s to tasks of its own, which report by the
//! daemon's [`Handle`]; it waits for none of them, so a slow name service, a registry that hangs, or a
//! daemon that is behind holds up nothing else. It never decides what to ask, nor asks twice: whether a
//! request whose reply got lost is repeated is for the core to say.

mod calls;
mod connect;
mod hello;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc};

use registryd_proto::{Keypair, RegistryAddress, Request};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
};

use self::{
    calls::{Calls, Job},
    hello::Session,
};
use crate::{
    core::{CallId, Input, input::CallFailure},
    daemon::{Handle, RegistryCommand},
};

/// Calls that wait for one registry; beyond, it counts as unreachable.
const CALLS_MAX: usize = 64;
/// Registries that have a task: a profile belongs to one, but may have tried others before.
const REGISTRIES_MAX: usize = 8;
/// Probes in flight.
const PROBES_MAX: usize = 8;

/// Runs the registry's door until the daemon drops its end of `commands`. `keys` is the profile's peer
/// key, which every connection proves.
pub async fn run(keys: Keypair, handle: Handle, mut commands: mpsc::Receiver<RegistryCommand>) {
    let (sessions, newest) = watch::channel(None);
    let mut door = Door {
        keys,
        sessions,
        registries: HashMap::new(),
        probes: Arc::new(Semaphore::new(PROBES_MAX)),
        tasks: JoinSet::new(),
        handle: handle.clone(),
    };
    door.tasks.spawn(hello::run(newest, handle));
    loop {
        tokio::select! {
            command = commands.recv() => match command {
                Some(command) => door.carry_out(command),
                None => break,
            },
            Some(done) = door.tasks.join_next() => if let Err(error) = done {
                tracing::error!(%error, "a task of the registry's door failed");
            },
        }
    }
    door.tasks.shutdown().await;
}

#[derive(Debug)]
struct Door {
    keys: Keypair,
    handle: Handle,
    sessions: watch::Sender<Option<Session>>,
    registries: HashMap<RegistryAddress, mpsc::Sender<Job>>,
    probes: Arc<Semaphore>,
    tasks: JoinSet<()>,
}

impl Door {
    fn carry_out(&mut self, command: RegistryCommand) {
        match command {
            RegistryCommand::Call { call, registry, request } => self.call(call, registry, request),
            RegistryCommand::Probe { call, registry } => self.probe(call, registry),
            RegistryCommand::StartHello { registry, grant } => {
                self.sessions.send_replace(Some(Session { registry, grant }));
            }
            RegistryCommand::StopHello => {
                self.sessions.send_replace(None);
            }
        }
    }

    fn call(&mut self, call: CallId, registry: RegistryAddress, request: Request) {
        let jobs = match self.registries.get(&registry) {
            Some(jobs) if !jobs.is_closed() => jobs,
            _ => self.open(registry),
        };
        if jobs.try_send(Job { call, request }).is_err() {
            tracing::warn!("too many calls wait for the registry");
            self.report(Input::Registry { call, result: Err(CallFailure::Unreachable) });
        }
    }

    /// Starts the task of a registry. Tasks that are forgotten answer what they were asked, and end.
    fn open(&mut self, registry: RegistryAddress) -> &mpsc::Sender<Job> {
        if self.registries.len() >= REGISTRIES_MAX {
            self.registries.clear();
        }
        let (sender, jobs) = mpsc::channel(CALLS_MAX);
        let (keys, handle) = (self.keys.clone(), self.handle.clone());
        self.tasks.spawn(Calls { registry: registry.clone(), keys, handle, jobs }.run());
        self.registries.entry(registry).insert_entry(sender).into_mut()
    }

    fn probe(&mut self, call: CallId, registry: RegistryAddress) {
        let Ok(permit) = Arc::clone(&self.probes).try_acquire_owned() else {
            return self.report(Input::Probed { call, result: Err(CallFailure::Unreachable) });
        };
        let (keys, handle) = (self.keys.clone(), self.handle.clone());
        self.tasks.spawn(async move {
            let result = match connect::connect(&registry, &keys).await {
                Ok(connection) => Ok(connection.key),
                Err(error) => {
                    tracing::info!(%registry, %error, "no registry");
                    Err(error.failure())
                }
            };
            drop(permit);
            // A daemon that has stopped needs no report.
            let _ = handle.send(Input::Probed { call, result }).await;
        });
    }

    fn report(&mut self, input: Input) {
        let handle = self.handle.clone();
        self.tasks.spawn(async move {
            // A daemon that has stopped needs no report.
            let _ = handle.send(input).await;
        });
    }
}
