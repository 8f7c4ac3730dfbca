//! Real users: daemons, scripts that talk through them, and a history of all that they did, were told and saw.
//!
//! Called by the tests of faults and by the soak. Users go on whatever happens to their daemons: a call that
//! broke is repeated under its id, as a user's script would. The caller kills, freezes and restarts; then
//! [`Users::finish`] lets every script come to its end, and [`Users::judge`] reads what everybody has and
//! holds it against the guarantees.

mod chance;
mod client;
mod ground;
mod lane;
mod reading;
mod recorder;
mod room;
mod stop;

use std::{
    collections::HashSet,
    path::PathBuf,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use p2pchat_history::{Conversation, History, Outcome, Record, Summary, Violation, Wait, check};
use peerd_proto::control::Target;

pub use chance::Chance;
pub use ground::Ground;
pub use recorder::{Call, Recorder};

use self::{
    client::CallError,
    lane::{Lane, Place},
    reading::Watcher,
    stop::{Phase, Stop},
};
use crate::{
    network::{Host, registry_at},
    peer::{Peer, PeerOptions},
    registry::Registry,
};

/// What daemons log: a long run must not fill the disk.
const QUIET: &str = "info";

/// The longest that users may go without a call while all daemons are up.
pub const TALKS_WITHIN: Duration = Duration::from_secs(30);

/// How long scripts may take to come to their end once all daemons are up.
const FINISH_WITHIN: Duration = Duration::from_secs(60);

/// How often it is looked whether a fault has healed.
const HEAL_LOOK_EVERY: Duration = Duration::from_millis(50);

/// How often the end is looked at again.
const JUDGE_EVERY: Duration = Duration::from_millis(500);

/// Waits, where a condition that lies outside of this process is looked at again and again.
pub(crate) fn pause(period: Duration) {
    // Nobody ends this one.
    Stop::default().reached(Phase::Over, period);
}

/// Who and where.
#[derive(Debug, Clone)]
pub struct UsersOptions {
    /// The users.
    pub names: Vec<String>,
    /// The rooms: a name, and who is in it, as places in `names`; the first owns it.
    pub rooms: Vec<(String, Vec<usize>)>,
    /// Whom each user writes to, besides rooms: so many others before and after it in the list.
    pub partners: usize,
    /// Whether the first and the second, the third and the fourth … are in a chat.
    pub chats: bool,
    /// How their peerds are started.
    pub peer: PeerOptions,
    /// Whether each is on a host of its own, where there can be networks.
    pub apart: bool,
}

impl UsersOptions {
    /// Users who all write to each other, without rooms.
    pub fn new(names: &[&str]) -> Self {
        Self {
            names: names.iter().map(|&name| name.to_owned()).collect(),
            rooms: Vec::new(),
            partners: names.len() - 1,
            chats: false,
            peer: PeerOptions { log_filter: QUIET.to_owned(), ..PeerOptions::default() },
            apart: false,
        }
    }

    /// With a room of these users.
    #[must_use]
    pub fn room(mut self, name: &str, members: &[usize]) -> Self {
        self.rooms.push((name.to_owned(), members.to_vec()));
        self
    }
}

/// What a run came to.
#[derive(Debug)]
pub struct Judged {
    /// All of it, to be kept if something is wrong.
    pub history: History,
    /// What is wrong.
    pub violations: Vec<Violation>,
    /// In figures.
    pub summary: Summary,
    /// How long after the call all was in order, or how long was waited for it.
    pub after: Duration,
}

impl Judged {
    /// Fails if anything is wrong; the history is kept and its path told.
    ///
    /// # Panics
    /// If so.
    #[track_caller]
    pub fn assert_clean(&self, what: &str) {
        if self.violations.is_empty() {
            return;
        }
        let shown: Vec<String> = self.violations.iter().take(20).map(ToString::to_string).collect();
        let path = self.keep().map_or_else(|e| e.to_string(), |p| p.display().to_string());
        let (count, shown) = (self.violations.len(), shown.join("\n"));
        panic!("{what}: {count} violations; the history is in {path}\n{shown}");
    }

    /// Writes the history to a file that stays.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn keep(&self) -> std::io::Result<PathBuf> {
        let builder = tempfile::Builder::new().prefix("history-").suffix(".jsonl").tempfile()?;
        let (file, path) = builder.keep().map_err(|e| e.error)?;
        self.history.write(std::io::BufWriter::new(file))?;
        Ok(path)
    }
}

/// Users with their daemons.
#[derive(Debug)]
pub struct Users {
    /// The registry.
    pub registry: Registry,
    /// The daemons, in the order of the names.
    pub peers: Vec<Peer>,
    /// What is between them, if they are apart.
    pub ground: Option<Ground>,
    places: Vec<Vec<Place>>,
    partners: usize,
    recorder: Recorder,
    stop: Stop,
    scripts: Vec<JoinHandle<()>>,
}

impl Users {
    /// Starts the daemons, makes accounts, rooms and policies; nobody talks yet.
    ///
    /// # Panics
    /// If any of it fails.
    pub fn start(options: &UsersOptions) -> Self {
        let ground = options.apart.then(|| Ground::new(options.names.len())).flatten();
        let registry = match &ground {
            Some(ground) => registry_at(&ground.hall, QUIET),
            None => Registry::start_with(&[], QUIET),
        };
        let online = |at: usize, name: &str| {
            let host = ground.as_ref().and_then(|ground| ground.hosts.get(at));
            let prefix = host.map(Host::prefix).unwrap_or_default();
            let peer = Peer::start_with(name, PeerOptions { prefix, ..options.peer.clone() });
            peer.create_account(&registry.address()).ok();
            peer.login(&[]).ok();
            peer.ctl(&["policy", "--default", "allow"]).ok();
            peer
        };
        let peers: Vec<Peer> = thread::scope(|scope| {
            let (names, online) = (options.names.iter().enumerate(), &online);
            let starting: Vec<_> =
                names.map(|(at, name)| scope.spawn(move || online(at, name))).collect();
            starting.into_iter().map(|peer| peer.join().expect("a peer gets ready")).collect()
        });
        for pair in peers.chunks_exact(2).filter(|_| options.chats) {
            pair[0].chat_with(&pair[1]);
        }
        let recorder = Recorder::default();
        let mut places = vec![Vec::new(); peers.len()];
        for (name, members) in &options.rooms {
            let epoch = room::create(name, members, &peers, &recorder);
            let target = Target::Room(name.parse().expect("a room's name"));
            let conversation = Conversation::room(name);
            for member in members {
                let (conversation, target) = (conversation.clone(), target.clone());
                places[*member].push(Place { conversation, target, epoch: Some(epoch) });
            }
        }
        let (stop, scripts, partners) = (Stop::default(), Vec::new(), options.partners);
        let mut users = Self { registry, peers, ground, places, partners, recorder, stop, scripts };
        users.know_partners();
        users
    }

    /// Who writes to whom goes both ways: histories are read on both sides.
    fn know_partners(&mut self) {
        let names: Vec<String> = self.peers.iter().map(|p| p.name().to_owned()).collect();
        for (at, places) in self.places.iter_mut().enumerate() {
            for other in 0..names.len() {
                let ahead = (other + names.len() - at) % names.len();
                let near = ahead <= self.partners || names.len() - ahead <= self.partners;
                if other != at && near {
                    places.push(Place {
                        conversation: Conversation::between(&names[at], &names[other]),
                        target: Target::User(names[other].parse().expect("a user's name")),
                        epoch: None,
                    });
                }
            }
        }
    }

    /// What was written down.
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// Everybody begins to talk, in two scripts at once, each with a message after every `every`; and to read
    /// what comes.
    pub fn talk(&mut self, every: Duration, seed: u64) {
        let chance = Chance::of(seed);
        for (at, peer) in self.peers.iter().enumerate() {
            let (who, socket) = (peer.name().to_owned(), peer.socket());
            let of_room = |p: &&Place| p.epoch.is_some();
            let of_user = |p: &&Place| p.epoch.is_none();
            let places = &self.places[at];
            let rooms: Vec<Place> = places.iter().filter(of_room).cloned().collect();
            let users: Vec<Place> = places.iter().filter(of_user).cloned().collect();
            for (name, number, places) in [("r", 0, rooms), ("u", 1, users)] {
                if places.is_empty() {
                    continue;
                }
                let lane = Lane {
                    who: who.clone(),
                    name: name.to_owned(),
                    socket: socket.clone(),
                    places,
                    every,
                    chance: chance.fork(at as u64 * 2 + number),
                    recorder: self.recorder.clone(),
                    stop: self.stop.clone(),
                };
                self.scripts.push(thread::spawn(|| lane.run()));
            }
            let (recorder, stop) = (self.recorder.clone(), self.stop.clone());
            let watcher = Watcher { who, socket, recorder, stop };
            self.scripts.push(thread::spawn(|| watcher.run()));
        }
    }

    /// One call of a user's to the first of its rooms, repeated by nobody. `None`: nobody to call.
    pub fn say_once(&self, at: usize, id: &str, wait: Wait) -> Option<Outcome> {
        let place = self.places[at].first()?;
        let call = Call {
            who: self.peers[at].name().to_owned(),
            to: place.conversation.clone(),
            epoch: place.epoch,
            id: id.to_owned(),
            text: format!("text of {id}"),
            wait,
        };
        lane::send(&mut None, &self.peers[at].socket(), place, &call, &self.recorder)
    }

    /// kill -9 of all daemons at once.
    pub fn kill_all(&mut self) {
        thread::scope(|scope| {
            scope.spawn(|| self.registry.kill());
            for peer in &mut self.peers {
                scope.spawn(|| peer.kill());
            }
        });
    }

    /// kill -9 of all daemons at once in the middle of a call, and their next start, so many times;
    /// `on_round` hears after each. Everybody must talk.
    ///
    /// # Panics
    /// If the users are stuck between two rounds.
    pub fn kill_all_rounds(&mut self, rounds: u64, seed: u64, mut on_round: impl FnMut(u64)) {
        let mut chance = Chance::of(seed);
        for round in 0..rounds {
            // A seeded number of calls after all were up again.
            let calls = self.recorder.calls() + 1 + chance.below(40);
            let talked = self.recorder.wait_for_calls(calls, TALKS_WITHIN);
            assert!(talked, "seed {seed}, round {round}: the users are stuck");
            self.kill_all();
            self.restart_all();
            on_round(round + 1);
        }
    }

    /// Starts all daemons again on their folders.
    ///
    /// # Panics
    /// If one does not get ready.
    pub fn restart_all(&mut self) {
        thread::scope(|scope| {
            scope.spawn(|| self.registry.restart());
            for peer in &mut self.peers {
                scope.spawn(|| peer.restart());
            }
        });
    }

    /// Waits until all that waits now is delivered, however much follows; how long that took. `None`: longer
    /// than `within`. All daemons must be up; `meanwhile` is called between two looks.
    pub fn heal(
        &mut self,
        within: Duration,
        mut meanwhile: impl FnMut(&mut Self),
    ) -> Option<Duration> {
        let begun = Instant::now();
        let mut waiting: Option<HashSet<(usize, String)>> = None;
        while begun.elapsed() < within {
            // Who cannot be asked is not healed.
            if let Ok(now) = self.waiting() {
                match &mut waiting {
                    None => waiting = Some(now),
                    Some(then) => then.retain(|message| now.contains(message)),
                }
                if waiting.as_ref().is_some_and(HashSet::is_empty) {
                    return Some(begun.elapsed());
                }
            }
            meanwhile(self);
            pause(HEAL_LOOK_EVERY);
        }
        None
    }

    /// All messages in all outboxes.
    fn waiting(&self) -> Result<HashSet<(usize, String)>, CallError> {
        let mut all = HashSet::new();
        for (at, peer) in self.peers.iter().enumerate() {
            let waiting = reading::outbox(&peer.socket())?;
            all.extend(waiting.into_iter().map(|message| (at, message.id.as_str().to_owned())));
        }
        Ok(all)
    }

    /// Lets every script come to its end: nothing new, but what is under way until it is told. All daemons
    /// must be up.
    ///
    /// # Panics
    /// If one does not end, or panicked.
    pub fn finish(&mut self) {
        self.stop.go_to(Phase::Finishing);
        let begun = Instant::now();
        let mut ended = true;
        while !self.scripts.iter().all(JoinHandle::is_finished) {
            ended = begun.elapsed() < FINISH_WITHIN;
            if !ended {
                break;
            }
            self.stop.reached(Phase::Over, Duration::from_millis(20));
        }
        self.stop.go_to(Phase::Over);
        for script in self.scripts.drain(..) {
            script.join().expect("a script does not panic");
        }
        assert!(ended, "within {FINISH_WITHIN:?} the daemons did not answer all scripts");
    }

    /// Waits until everything is as it should be among the users in `up`, at most for `within`, and tells what
    /// is not. To be called when all faults are over.
    pub fn judge(&self, up: &[usize], within: Duration) -> Judged {
        let begun = Instant::now();
        loop {
            let over = begun.elapsed() >= within;
            // What cannot be read yet is not in order yet.
            let history = self.end(up);
            let unread = history.is_err();
            let history = history.unwrap_or_else(|_| self.recorder.history());
            let violations = check(&history);
            if over || (violations.is_empty() && !unread) {
                assert!(!unread, "within {within:?} not everybody could be read");
                let summary = Summary::of(&history, &violations);
                return Judged { history, violations, summary, after: begun.elapsed() };
            }
            pause(JUDGE_EVERY);
        }
    }

    /// The history with its end.
    fn end(&self, up: &[usize]) -> Result<History, CallError> {
        let mut history = self.recorder.history();
        let at_ms = self.recorder.now_ms();
        history.push(Record::Healed { at_ms });
        for at in up {
            let (peer, socket) = (&self.peers[*at], self.peers[*at].socket());
            let who = peer.name();
            for waiting in reading::outbox(&socket)? {
                let to = match (&waiting.room, &waiting.to) {
                    (Some(room), _) => Conversation::room(room.as_str()),
                    (None, Some(to)) => Conversation::between(who, to.as_str()),
                    (None, None) => continue,
                };
                let (who, id) = (who.to_owned(), waiting.id.as_str().to_owned());
                history.push(Record::Waits { who, to, id });
            }
            let who_stayed = who.to_owned();
            history.push(Record::Stayed { who: who_stayed, holdings_read: true, events_from: 1 });
            history.extend(reading::all_events(who, &socket, at_ms)?);
            for place in &self.places[*at] {
                let (held, head) = reading::holdings(who, &socket, place)?;
                history.extend(held);
                history.push(head);
            }
        }
        Ok(history)
    }
}

impl Drop for Users {
    fn drop(&mut self) {
        self.stop.go_to(Phase::Over);
        for script in self.scripts.drain(..) {
            let _ = script.join();
        }
    }
}
