//! The shapes of whole worlds: how many users, and whether one has a second device. Each is set up once, by
//! commands of its users in a calm world, and kept as disks; every schedule starts from there.

use std::{collections::BTreeMap, sync::Mutex};

use peerd::{
    core::{CommandId, memory::Disk},
    keys::Keys,
};
use peerd_proto::control::{
    Command, CreateAccount, CreateRoom, JoinRoom, Login, Policy, PolicyName,
};
use registryd::simulation::{Now, Setup};
use registryd_proto::{
    Access, HistoryAccess, Keypair, PublicKey, RegistryAddress, RoomName, Username,
};

use super::{
    index::{Index, IndexDisk},
    machine::{Device, Machine},
    planted::Planted,
};

/// How long a set-up waits for each command.
const STEP_MS: u64 = 400;
/// Seeds of the set-up: the same keys in every world.
const SETUP_SEED: u64 = 7;
/// What everybody's password is.
const PASSWORD: &str = "password";

/// Who is in a world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shape {
    /// How many users: 2 to 8.
    pub users: usize,
    /// The first user has a second device, with keys of its own, which was never started.
    pub spare: bool,
    /// What a joiner of the room may read.
    pub history_all: bool,
}

impl Shape {
    /// How many devices.
    pub fn devices(self) -> usize {
        self.users + usize::from(self.spare)
    }

    /// Whose a device is.
    pub fn account(self, node: usize) -> usize {
        if node < self.users { node } else { 0 }
    }
}

/// A world as its set-up left it: all down.
#[derive(Clone)]
struct Prepared {
    disks: Vec<Disk>,
    index: IndexDisk,
    address: RegistryAddress,
    key: PublicKey,
    now_ms: u64,
}

static PREPARED: Mutex<BTreeMap<Shape, Prepared>> = Mutex::new(BTreeMap::new());

/// The name of a user.
pub fn name(account: usize) -> Username {
    format!("u{account}").parse().expect("a short name")
}

/// The user of a name.
pub fn named(name: &Username) -> Option<usize> {
    name.as_str().strip_prefix('u')?.parse().ok()
}

/// The room that all are in at the beginning, or another one.
pub fn room(n: usize) -> RoomName {
    format!("room{n}").parse().expect("a short name")
}

fn keys(node: usize) -> Keys {
    let secret = |first: u8| {
        let mut secret = [first; 32];
        secret[1] = u8::try_from(node).unwrap_or(u8::MAX);
        Keypair::from_secret(&secret)
    };
    Keys { peer: secret(1), room: secret(2) }
}

fn devices(shape: Shape) -> Vec<Device> {
    (0..shape.devices())
        .map(|node| {
            let last = u8::try_from(node + 1).unwrap_or(u8::MAX);
            Device::new(shape.account(node), keys(node), [10, 0, 0, last].into())
        })
        .collect()
}

/// A world of this shape with everything down, for a seed.
pub fn world(shape: Shape, seed: u64, planted: Planted) -> Machine {
    let prepared = prepared(shape, planted);
    let index = Index::with_disk(prepared.index, prepared.address, prepared.key);
    let mut devices = devices(shape);
    for (device, disk) in devices.iter_mut().zip(prepared.disks) {
        device.disk = disk;
    }
    let mut machine = Machine::new(devices, index, prepared.now_ms, seed);
    machine.planted = planted;
    machine
}

fn prepared(shape: Shape, planted: Planted) -> Prepared {
    if planted.index != registryd::simulation::Planted::default() {
        return prepare(shape, planted);
    }
    if let Some(prepared) = PREPARED.lock().ok().and_then(|all| all.get(&shape).cloned()) {
        return prepared;
    }
    let prepared = prepare(shape, planted);
    if let Ok(mut all) = PREPARED.lock() {
        all.insert(shape, prepared.clone());
    }
    prepared
}

fn prepare(shape: Shape, planted: Planted) -> Prepared {
    let setup = Setup { planted: planted.index, ..Setup::default() };
    let now = Now { monotonic_ms: 1_000, wall_ms: super::machine::WALL_START_MS + 1_000 };
    let index = Index::new(SETUP_SEED, now, setup);
    let mut machine = Machine::new(devices(shape), index, 1_000, SETUP_SEED);
    machine.settle_index();
    let registry = machine.index.address().clone();
    let mut last = 0;
    let mut ask = |machine: &mut Machine, node: usize, command: Command| {
        last += 1;
        let id = CommandId(last);
        machine.command(node, id, command);
        machine.run_until(machine.now_ms + STEP_MS);
        let told = machine.told.remove(&id);
        let done = told.as_deref().is_some_and(|told| matches!(told, [Ok(_)]));
        assert!(done, "the set-up of {shape:?}, command {last} of {node}: {told:?}");
    };
    for node in 0..shape.users {
        machine.start(node);
        ask(&mut machine, node, create_account(node, registry.clone()));
        ask(&mut machine, node, login(node, registry.clone(), false));
    }
    for node in 0..shape.users {
        for other in (0..shape.users).filter(|other| *other != node) {
            ask(&mut machine, node, policy(other, PolicyName::Allow));
        }
    }
    let history = if shape.history_all { HistoryAccess::All } else { HistoryAccess::Joined };
    ask(
        &mut machine,
        0,
        CreateRoom { room: room(0), access: Access::Open, history, password: None }.into(),
    );
    for node in 1..shape.users {
        ask(&mut machine, node, JoinRoom { room: room(0), password: None }.into());
    }
    machine.run_until(machine.now_ms + 2_000);
    Prepared {
        disks: machine.devices.iter().map(|device| device.disk.clone()).collect(),
        index: machine.index.disk(),
        address: machine.index.address().clone(),
        key: machine.index.key(),
        now_ms: machine.now_ms + 10_000,
    }
}

fn password() -> registryd_proto::Password {
    registryd_proto::Password::new(PASSWORD.to_owned()).expect("long enough")
}

fn create_account(account: usize, registry: RegistryAddress) -> Command {
    CreateAccount { username: name(account), registry, password: password(), invite: None }.into()
}

/// The command that logs a user in.
pub fn login(account: usize, registry: RegistryAddress, takeover: bool) -> Command {
    Login {
        username: name(account),
        registry: Some(registry),
        password: password(),
        peer_port: None,
        room_port: None,
        takeover,
    }
    .into()
}

/// The command that sets a contact's policy.
pub fn policy(account: usize, policy: PolicyName) -> Command {
    Policy { username: Some(name(account)), policy: Some(policy) }.into()
}
