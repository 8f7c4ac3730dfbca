//! One run of a schedule: what users do, what breaks, a time to heal, and a last look at everything.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use peerd::core::{Answer, CommandId};
use peerd_proto::{
    control::{
        Accept, Chat, Command, Contacts, CreateRoom, DeleteRoom, End, JoinRoom, Kick, LeaveRoom,
        Logout, OutboxCancel, PolicyName, Reject, Requests, Send, SessionState, SetRole, Status,
        Target, Trust, WaitUntil,
    },
    wire::MessageId,
};
use registryd_proto::{Access, HistoryAccess, Role, RoomName};

use super::{
    conditions::Conditions,
    look::{IndexLook, Look, Probe},
    machine::{INDEX, Machine, Told},
    planted::Planted,
    shape::{self, name, room},
    step::{Schedule, Step, Verb},
};
use crate::counts::Fault;

/// How long dead links and lost requests take to be noticed, and sessions to come back.
const NOTICE_MS: u64 = 40_000;
/// How long a user waits for an answer in the end.
pub(super) const ASK_MS: u64 = 3_000;
/// How long healed peers have: dials back off, and slower where the registry called a peer offline.
const HEALING_MS: u64 = 70_000;
/// How often users look for changed keys in the end: each takeover of an account shows another.
const TRUST_ROUNDS: usize = 4;
/// How long a `send` that waits for delivery waits.
const SEND_TIMEOUT_MS: u64 = 5_000;

/// Where a message goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// To a user.
    User(usize),
    /// To a room.
    Room(RoomName),
}

/// A message that a user sent.
#[derive(Debug, Clone)]
pub struct Said {
    /// From which device.
    pub author: usize,
    /// Where to.
    pub to: Place,
    /// Its id.
    pub id: MessageId,
    /// Its text.
    pub text: String,
    /// The calls of `send`.
    pub commands: Vec<CommandId>,
    /// Whether it was ever cancelled.
    pub cancelled: bool,
}

/// A world while a schedule runs.
pub struct Run {
    /// The world.
    pub machine: Machine,
    /// What was said, in order.
    pub said: Vec<Said>,
    /// The commands given: at which device, in which of its runs.
    pub asked: BTreeMap<CommandId, (usize, u64, &'static str)>,
    /// Devices that are down in the end.
    pub gone: Option<usize>,
    /// What each device says in the end, if it is up.
    pub looks: Vec<Option<Look>>,
    /// What the registry says in the end.
    pub index: IndexLook,
    /// A chat that was tried in the end.
    pub probe: Option<Probe>,
    /// Users who logged in or out while things broke.
    pub moved_in_or_out: BTreeSet<usize>,
    /// How the devices stood after healing, before anybody logged in again.
    pub states_healed: Vec<Option<SessionState>>,
    /// When all faults were over.
    pub healed_ms: u64,
    /// A room was made or deleted.
    pub rooms_made: bool,
    shape: shape::Shape,
    last: u64,
}

impl Run {
    /// Runs a schedule to its end.
    pub fn of(schedule: &Schedule, planted: Planted) -> Self {
        let mut machine = shape::world(schedule.shape, schedule.seed, planted);
        machine.start_index();
        for node in 0..schedule.shape.users {
            machine.start(node);
        }
        machine.run_until(machine.now_ms + 1_500);
        machine.conditions = schedule.conditions;
        let mut run = Self {
            machine,
            said: Vec::new(),
            asked: BTreeMap::new(),
            gone: schedule.gone,
            looks: Vec::new(),
            index: IndexLook::default(),
            probe: None,
            moved_in_or_out: BTreeSet::new(),
            states_healed: Vec::new(),
            healed_ms: 0,
            rooms_made: false,
            shape: schedule.shape,
            last: 1_000_000,
        };
        for (pause_ms, step) in &schedule.steps {
            run.machine.run_until(run.machine.now_ms + pause_ms);
            run.step(*step);
        }
        run.heal();
        run.look();
        run
    }

    /// The devices that are up.
    pub fn up(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.machine.devices.len()).filter(|node| self.machine.is_up(*node))
    }

    /// The device of a user that is online in the end.
    pub fn online(&self, account: usize) -> Option<usize> {
        let online = |node: &usize| {
            let look = self.looks.get(*node).and_then(Option::as_ref);
            look.is_some_and(|look| look.status.session == SessionState::Online)
        };
        self.up().filter(|node| self.shape.account(*node) == account).find(online)
    }

    /// How many users there are.
    pub fn users(&self) -> usize {
        self.shape.users
    }

    fn node(&self, n: usize) -> usize {
        n % self.shape.devices()
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Do { node, verb } => {
                let node = self.node(node);
                self.act(node, verb);
            }
            Step::Crash { node } => self.machine.crash(self.node(node)),
            Step::Start { node } => self.machine.start(self.node(node)),
            Step::CrashIndex => self.crash_index(),
            Step::StartIndex => self.machine.start_index(),
            Step::BackUp { node } => self.machine.back_up(self.node(node)),
            Step::Restore { node } => {
                let node = self.node(node);
                self.machine.crash(node);
                self.machine.roll_back(node);
            }
            Step::BackUpIndex => self.machine.index.back_up(),
            Step::RestoreIndex => {
                self.crash_index();
                if self.machine.index.roll_back() {
                    self.machine.counts.count(Fault::RegistryRestore);
                }
            }
            Step::Jump { node, by_ms } => {
                let node = self.node(node);
                self.machine.counts.count(Fault::ClockJump);
                self.machine.devices[node].wall_offset_ms += by_ms;
            }
            Step::JumpIndex { by_ms } => {
                self.machine.counts.count(Fault::ClockJump);
                self.machine.index.wall_offset_ms += by_ms;
            }
            Step::Cut { from, to, both } => {
                let (from, to) = (self.node(from), self.node(to));
                self.count_cut(both);
                self.machine.cut(from, to);
                if both {
                    self.machine.cut(to, from);
                }
            }
            Step::CutIndex { node, back, both } => {
                let node = self.node(node);
                self.count_cut(both);
                if back || both {
                    self.machine.cut(INDEX, node);
                }
                if !back || both {
                    self.machine.cut(node, INDEX);
                }
            }
            Step::Heal => self.machine.heal(),
            Step::Break { which } => {
                let all = self.machine.net.all();
                if !all.is_empty() {
                    self.machine.counts.count(Fault::BrokenLink);
                    self.machine.break_off(all[which % all.len()]);
                }
            }
            Step::Move { node, to } => self.move_to(node, to),
            Step::Stall { node, for_ms } => {
                let node = self.node(node);
                self.machine.counts.count(Fault::StalledDisk);
                self.machine.devices[node].stalled_until_ms = self.machine.now_ms + for_ms;
            }
            Step::Replay { which, elsewhere } => self.machine.replay(which, elsewhere),
        }
    }

    /// To a free address.
    fn move_to(&mut self, node: usize, to: usize) {
        let node = self.node(node);
        let last = u8::try_from(to + 1).unwrap_or(u8::MAX);
        let ip: IpAddr = [10, 0, 0, last].into();
        if self.machine.devices.iter().all(|device| device.ip != ip) {
            self.machine.counts.count(Fault::AddressChange);
            self.machine.move_to(node, ip);
        }
    }

    fn crash_index(&mut self) {
        if self.machine.index.is_up() {
            self.machine.counts.count(Fault::RegistryCrash);
        }
        self.machine.index.crash();
    }

    fn count_cut(&mut self, both: bool) {
        let fault = if both { Fault::TwoWayCut } else { Fault::OneWayCut };
        self.machine.counts.count(fault);
    }

    /// A command of a device's user. `None`: the device is down.
    pub(super) fn command(
        &mut self,
        node: usize,
        verb: &'static str,
        command: Command,
    ) -> Option<CommandId> {
        if !self.machine.is_up(node) {
            return None;
        }
        self.last += 1;
        let id = CommandId(self.last);
        self.asked.insert(id, (node, self.machine.devices[node].starts, verb));
        self.machine.command(node, id, command);
        Some(id)
    }

    fn act(&mut self, node: usize, verb: Verb) {
        let user = |n: usize| name(n % self.shape.users);
        let mine = self.shape.account(node);
        let (label, command): (_, Command) = match verb {
            Verb::Send { to, waits } => {
                let to = to % self.shape.users;
                if to != mine {
                    self.say(node, Place::User(to), waits);
                }
                return;
            }
            Verb::SendRoom { room: n, waits } => {
                return self.say(node, Place::Room(room(n)), waits);
            }
            Verb::Repeat { back } => return self.repeat(node, back),
            Verb::Cancel { back } => return self.cancel(node, back),
            Verb::Chat { with, ring_ms } if with % self.shape.users != mine => {
                ("chat", Chat { username: user(with), ring_ms: Some(ring_ms) }.into())
            }
            Verb::Chat { .. } => return,
            Verb::Accept { to } => ("accept", Accept { username: user(to) }.into()),
            Verb::Reject { to } => ("reject", Reject { username: user(to) }.into()),
            Verb::End { with } => ("end", End { username: user(with) }.into()),
            Verb::Policy { of, policy } => {
                let policy = match policy {
                    0 => PolicyName::Allow,
                    1 => PolicyName::Ask,
                    _ => PolicyName::Block,
                };
                ("policy", shape::policy(of % self.shape.users, policy))
            }
            Verb::Trust { of } => ("trust", Trust { username: user(of), key: None }.into()),
            Verb::CreateRoom { room: n } => {
                self.rooms_made = true;
                let (access, history) = (Access::Open, HistoryAccess::Joined);
                (
                    "create_room",
                    CreateRoom { room: room(n), access, history, password: None }.into(),
                )
            }
            Verb::JoinRoom { room: n } => {
                ("join_room", JoinRoom { room: room(n), password: None }.into())
            }
            Verb::LeaveRoom { room: n } => ("leave_room", LeaveRoom { room: room(n) }.into()),
            Verb::Kick { room: n, user: of } => {
                ("kick", Kick { room: room(n), username: user(of) }.into())
            }
            Verb::SetRole { room: n, user: of, owner } => {
                let role = if owner { Role::Owner } else { Role::Moderator };
                ("set_role", SetRole { room: room(n), username: user(of), role }.into())
            }
            Verb::DeleteRoom { room: n } => {
                self.rooms_made = true;
                ("delete_room", DeleteRoom { room: room(n) }.into())
            }
            Verb::Logout => {
                self.moved_in_or_out.insert(mine);
                ("logout", Logout {}.into())
            }
            Verb::Login { takeover } => {
                self.moved_in_or_out.insert(mine);
                self.machine.start(node);
                let registry = self.machine.index.address().clone();
                ("login", shape::login(mine, registry, takeover))
            }
        };
        self.command(node, label, command);
    }

    fn say(&mut self, node: usize, to: Place, waits: bool) {
        let n = self.said.len();
        let id: MessageId = format!("{node}-{n}").parse().expect("a short id");
        let text = format!("text {n} of {node}");
        let said = Said { author: node, to, id, text, commands: Vec::new(), cancelled: false };
        if let Some(command) = self.send(node, &said, waits) {
            self.said.push(Said { commands: vec![command], ..said });
        }
    }

    fn send(&mut self, node: usize, said: &Said, waits: bool) -> Option<CommandId> {
        let to = match &said.to {
            Place::User(account) => Target::User(name(*account)),
            Place::Room(name) => Target::Room(name.clone()),
        };
        let send = Send {
            to,
            body: said.text.clone(),
            wait: if waits { WaitUntil::Delivered } else { WaitUntil::Queued },
            timeout_ms: Some(SEND_TIMEOUT_MS),
            id: Some(said.id.clone()),
            expires_ms: None,
        };
        self.command(node, "send", send.into())
    }

    fn own(&self, node: usize, back: usize) -> Option<usize> {
        let mut own = (0..self.said.len()).rev().filter(|at| self.said[*at].author == node);
        own.nth(back)
    }

    fn repeat(&mut self, node: usize, back: usize) {
        let Some(at) = self.own(node, back) else { return };
        let said = self.said[at].clone();
        // A room of the same name may be another one by now, where it is another message.
        if matches!(said.to, Place::Room(_)) && self.rooms_made {
            return;
        }
        if let Some(command) = self.send(node, &said, false) {
            self.said[at].commands.push(command);
        }
    }

    fn cancel(&mut self, node: usize, back: usize) {
        let Some(at) = self.own(node, back) else { return };
        let id = self.said[at].id.clone();
        if self.command(node, "outbox_cancel", OutboxCancel { id }.into()).is_some() {
            self.said[at].cancelled = true;
        }
    }

    /// Ends all faults; brings everybody back who is not gone for good; lets all talk to all.
    fn heal(&mut self) {
        let devices = self.machine.devices.len();
        self.healed_ms = self.machine.now_ms;
        self.machine.conditions = Conditions::CALM;
        self.machine.heal();
        self.machine.start_index();
        self.gone = self.gone.map(|node| node % devices);
        if let Some(node) = self.gone {
            self.machine.crash(node);
        }
        for node in 0..devices {
            let used = self.machine.devices[node].starts > 0;
            if used && self.gone != Some(node) {
                self.machine.start(node);
            }
        }
        self.machine.run_until(self.machine.now_ms + NOTICE_MS);
        self.states_healed = (0..devices).map(|node| self.session(node)).collect();
        self.log_in_all();
        self.let_all_talk();
        self.machine.run_until(self.machine.now_ms + HEALING_MS);
    }

    /// Each user who has a device that is up is online with one.
    fn log_in_all(&mut self) {
        for _ in 0..3 {
            let states: Vec<_> = (0..self.machine.devices.len()).map(|n| self.session(n)).collect();
            for account in 0..self.shape.users {
                let own: Vec<usize> =
                    self.up().filter(|node| self.shape.account(*node) == account).collect();
                if own.iter().any(|node| states[*node] == Some(SessionState::Online)) {
                    continue;
                }
                if let Some(node) = own.first().copied() {
                    let registry = self.machine.index.address().clone();
                    self.command(node, "login", shape::login(account, registry, true));
                }
            }
            self.machine.run_until(self.machine.now_ms + 4 * ASK_MS);
        }
    }

    fn session(&mut self, node: usize) -> Option<SessionState> {
        match self.told(node, "status", Status {}.into())? {
            Ok(Answer::Status(status)) => Some(status.session),
            _ => None,
        }
    }

    /// What a device answers within a moment.
    pub(super) fn told(
        &mut self,
        node: usize,
        verb: &'static str,
        command: Command,
    ) -> Option<Told> {
        let id = self.command(node, verb, command)?;
        self.machine.run_until(self.machine.now_ms + 100);
        self.machine.told.get(&id)?.first().cloned()
    }

    fn let_all_talk(&mut self) {
        let up: Vec<usize> = self.up().collect();
        for node in &up {
            let account = self.shape.account(*node);
            for other in (0..self.shape.users).filter(|other| *other != account) {
                self.command(*node, "policy", shape::policy(other, PolicyName::Allow));
            }
        }
        // Who trusts a key asks the registry for it, and may learn there of one that is newer still.
        for _ in 0..TRUST_ROUNDS {
            let trusted = up.iter().filter(|node| self.trust_new_keys(**node)).count();
            if trusted == 0 {
                break;
            }
            self.machine.run_until(self.machine.now_ms + 2 * ASK_MS);
        }
        for node in up {
            let requests = self.told(node, "requests", Requests {}.into());
            if let Some(Ok(Answer::Requests(requests))) = requests {
                for request in requests.requests.into_iter().filter(|r| !r.chat) {
                    self.command(node, "accept", Accept { username: request.from }.into());
                }
            }
        }
    }

    /// A user trusts the keys that he was shown to have changed. Whether there were any.
    pub(super) fn trust_new_keys(&mut self, node: usize) -> bool {
        let contacts = self.told(node, "contacts", Contacts {}.into());
        let Some(Ok(Answer::Contacts(contacts))) = contacts else { return false };
        let changed = contacts.contacts.into_iter().filter(|c| c.untrusted_key.is_some());
        let changed: Vec<_> = changed.filter_map(|contact| contact.username).collect();
        let any = !changed.is_empty();
        for username in changed {
            self.command(node, "trust", Trust { username, key: None }.into());
        }
        any
    }
}
