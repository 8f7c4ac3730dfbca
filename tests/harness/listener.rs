//! `p2pctl listen` in the background, its events collected as they come.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard},
    thread,
};

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    process::signal,
    wait::{DEADLINE, eventually},
};

/// A running `listen`. Dropped, it is killed.
#[derive(Debug)]
pub struct Listener {
    child: Child,
    events: Arc<Mutex<Vec<Value>>>,
}

impl Listener {
    pub(crate) fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("p2pctl can be started");
        let stdout = child.stdout.take().expect("stdout is piped");
        let events = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&events);
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let event = serde_json::from_str(&line).expect("each line is one object");
                sink.lock().expect("no reader panics with the lock").push(event);
            }
        });
        Self { child, events }
    }

    /// Stops the process without ending it, as a suspended terminal does.
    pub fn freeze(&self) {
        signal(self.child.id(), Signal::STOP);
    }

    /// Undoes [`Listener::freeze`].
    pub fn thaw(&self) {
        signal(self.child.id(), Signal::CONT);
    }

    /// All that came so far.
    ///
    /// # Panics
    /// If a line was no JSON.
    pub fn events(&self) -> Vec<Value> {
        self.lock().clone()
    }

    /// How many came so far.
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// Waits for the first event for which `wanted` holds.
    ///
    /// # Panics
    /// If it does not come in time.
    #[track_caller]
    pub fn wait_for(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually(what, DEADLINE, || self.lock().iter().find(|e| wanted(e)).cloned())
    }

    /// Waits for an event of this type.
    ///
    /// # Panics
    /// If it does not come in time.
    #[track_caller]
    pub fn wait_for_type(&self, kind: &str) -> Value {
        self.wait_for(&format!("an event {kind}"), |e| e["type"] == kind)
    }

    /// Waits for the message with this body.
    ///
    /// # Panics
    /// If it does not come in time.
    #[track_caller]
    pub fn wait_for_body(&self, body: &str) -> Value {
        self.wait_for(&format!("the message {body:?}"), |e| e["body"] == body)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Value>> {
        self.events.lock().expect("every line was JSON")
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
