//! A registry in memory: enough of its behaviour for the cores.

use std::collections::{BTreeMap, BTreeSet};

use registryd_proto::{
    Account, CARD_LIFETIME_MS, Card, Code, Digest, Endpoints, Failure, KeyBinding, Keypair, Member,
    MembershipOp, MembershipRecord, PresenceState, PublicKey, RegistryAddress, Reply, Request,
    Role, Room, RoomId, RoomListing, RoomMember, RoomName, RoomView, SessionGrant, Signed,
    SyncReply, UserView, Username, hello::SessionKey,
};

struct Row {
    binding: KeyBinding,
    serial: u64,
    epoch: u64,
    online: bool,
    endpoints: Endpoints,
    version: u64,
    came: Vec<Username>,
    former: Vec<PublicKey>,
}

/// The registry.
pub(in crate::core) struct Registry {
    pub(in crate::core) key: Keypair,
    pub(in crate::core) now_ms: u64,
    accounts: BTreeMap<Username, Row>,
    watches: BTreeSet<(Username, Username)>,
    rooms: BTreeMap<RoomName, Vec<Signed<MembershipRecord>>>,
    invitations: BTreeSet<(Username, RoomName)>,
    /// The most records in one reply.
    pub(in crate::core) page: usize,
    /// Syncs list no rooms.
    pub(in crate::core) hide_rooms: bool,
    /// It has too much to do, and says to come back in so long.
    pub(in crate::core) busy_ms: Option<u64>,
    /// Accounts to be nudged, with their version.
    pub(in crate::core) nudges: Vec<(Username, u64)>,
}

fn no(code: Code) -> Failure {
    Failure::new(code, "no")
}

impl Registry {
    pub(in crate::core) fn new() -> Self {
        Self {
            key: Keypair::from_secret(&[200; 32]),
            now_ms: 1_000,
            accounts: BTreeMap::new(),
            watches: BTreeSet::new(),
            rooms: BTreeMap::new(),
            invitations: BTreeSet::new(),
            page: 400,
            hide_rooms: false,
            busy_ms: None,
            nudges: Vec::new(),
        }
    }

    pub(in crate::core) fn address(&self) -> RegistryAddress {
        let address: RegistryAddress = "registry:4700".parse().expect("an address");
        address.with_key(self.key.public())
    }

    pub(in crate::core) fn set_online(&mut self, name: &Username, online: bool) {
        let Some(row) = self.accounts.get_mut(name) else { return };
        row.online = online;
        let watchers: Vec<_> = self.watches.iter().filter(|(_, of)| of == name).cloned().collect();
        for watch in watchers.into_iter().filter(|_| online) {
            self.watches.remove(&watch);
            if let Some(watcher) = self.accounts.get_mut(&watch.0) {
                watcher.came.push(name.clone());
            }
            self.bump(&watch.0);
        }
    }

    pub(in crate::core) fn version(&self, name: &Username) -> u64 {
        self.accounts[name].version
    }

    pub(in crate::core) fn log(&self, name: &RoomName) -> Vec<Signed<MembershipRecord>> {
        self.rooms[name].clone()
    }

    pub(in crate::core) fn bump(&mut self, name: &Username) {
        let Some(row) = self.accounts.get_mut(name) else { return };
        row.version += 1;
        self.nudges.push((name.clone(), row.version));
    }

    /// Binds an account to other keys, as a login elsewhere does.
    pub(in crate::core) fn rebind(&mut self, name: &Username, peer: &Keypair, room: &Keypair) {
        let binding = KeyBinding::new(&self.key.public(), name, peer, room);
        let row = self.accounts.get_mut(name).expect("an account");
        row.former.push(row.binding.peer_key);
        row.binding = binding;
        row.serial += 1;
        row.epoch += 1;
    }

    /// Counts an account's bindings and sessions anew from here, as one does that is restored from a backup.
    pub(in crate::core) fn set_counts(&mut self, name: &Username, serial: u64, epoch: u64) {
        let row = self.accounts.get_mut(name).expect("an account");
        (row.serial, row.epoch) = (serial, epoch);
    }

    /// Carries out a resume whose peerd has died meanwhile.
    pub(in crate::core) fn resume_late(&mut self, name: &Username) {
        let endpoints = self.accounts[name].endpoints.clone();
        self.grant(name, endpoints);
        self.bump(name);
    }

    fn card(&self, name: &Username) -> Signed<Card> {
        let row = &self.accounts[name];
        let card = Card {
            username: name.clone(),
            binding: row.binding.clone(),
            serial: row.serial,
            issued_ms: self.now_ms,
            expires_ms: self.now_ms + CARD_LIFETIME_MS,
        };
        Signed::seal(&card, &self.key)
    }

    fn view(&self, name: &Username) -> Result<UserView, Failure> {
        let row = self.accounts.get(name).ok_or(no(Code::NotFound))?;
        let online = row.online;
        Ok(UserView {
            username: name.clone(),
            presence: if online { PresenceState::Online } else { PresenceState::Offline },
            last_hello_ms_ago: online.then_some(1),
            confirmed: true,
            card: self.card(name),
            endpoints: row.endpoints.clone(),
        })
    }

    fn grant(&mut self, name: &Username, endpoints: Endpoints) -> Reply {
        let row = self.accounts.get_mut(name).expect("an account");
        row.epoch += 1;
        row.endpoints = endpoints;
        self.set_online(name, true);
        let row = &self.accounts[name];
        Reply::Session(SessionGrant {
            username: name.clone(),
            session: 1,
            epoch: row.epoch,
            key: SessionKey::from_bytes([1; 32]),
            hello_port: 4700,
            interval_ms: 1_000,
            boot: 1,
            card: self.card(name),
            version: row.version,
            server_time_ms: self.now_ms,
            observed: [127, 0, 0, 1].into(),
        })
    }

    /// Carries out a request of the owner of `key`.
    pub(in crate::core) fn handle(
        &mut self,
        key: &PublicKey,
        request: Request,
    ) -> Result<Reply, Failure> {
        if self.busy_ms.is_some() {
            return Err(Failure { retry_after_ms: self.busy_ms, ..no(Code::RateLimited) });
        }
        match request {
            Request::CreateAccount { username, binding, .. } => {
                if self.accounts.contains_key(&username) {
                    return Err(no(Code::Conflict));
                }
                let row = Row {
                    binding,
                    serial: 1,
                    epoch: 0,
                    online: false,
                    endpoints: Endpoints::default(),
                    version: 1,
                    came: Vec::new(),
                    former: Vec::new(),
                };
                self.accounts.insert(username.clone(), row);
                Ok(Reply::Account(Account { card: self.card(&username), username }))
            }
            Request::Login { username, endpoints, password, .. } => {
                if !self.accounts.contains_key(&username) || password.expose() != b"password" {
                    return Err(no(Code::BadCredentials));
                }
                Ok(self.grant(&username, endpoints))
            }
            request => {
                let own = |(_, r): &(&Username, &Row)| r.binding.peer_key == *key;
                let Some(name) = self.accounts.iter().find(own).map(|(n, _)| n.clone()) else {
                    let old = self.accounts.values().any(|r| r.former.contains(key));
                    return Err(no(if old { Code::Superseded } else { Code::NotLoggedIn }));
                };
                self.handle_own(&name, request)
            }
        }
    }

    fn handle_own(&mut self, name: &Username, request: Request) -> Result<Reply, Failure> {
        match request {
            Request::Resume { endpoints, serial, epoch, .. } => {
                let row = self.accounts.get_mut(name).expect("an account");
                row.serial = row.serial.max(serial);
                row.epoch = row.epoch.max(epoch);
                Ok(self.grant(name, endpoints))
            }
            Request::DeleteAccount { .. } => {
                self.accounts.remove(name);
                Ok(Reply::Done)
            }
            Request::Logout => {
                self.set_online(name, false);
                Ok(Reply::Done)
            }
            Request::Search { username } => self.view(&username).map(Reply::User),
            Request::Watch { username } => {
                let view = self.view(&username)?;
                if view.presence == PresenceState::Offline {
                    self.watches.insert((name.clone(), username));
                }
                Ok(Reply::User(view))
            }
            Request::Sync { .. } => self.sync(name),
            Request::CreateRoom { room, access, history, .. } => {
                let owner = self.member(name, Role::Owner);
                self.rooms.insert(room.clone(), Vec::new());
                self.record(&room, MembershipOp::Create { owner, access, history });
                self.room(&room, 0)
            }
            Request::DeleteRoom { room } => {
                let log = self.rooms.remove(&room).ok_or(no(Code::NotFound))?;
                let held = Room::from_log(&log, &self.key.public()).expect("our own log");
                held.members().for_each(|member| self.bump(&member.username));
                Ok(Reply::Done)
            }
            Request::JoinRoom { room, .. } => {
                let log = self.rooms.get(&room).ok_or(no(Code::NotFound))?;
                let held = Room::from_log(log, &self.key.public()).expect("our own log");
                if held.member(name).is_none() {
                    let member = self.member(name, Role::Member);
                    self.record(&room, MembershipOp::Join { member });
                }
                self.room(&room, 0)
            }
            Request::Invite { room, username } => {
                self.invitations.insert((username.clone(), room));
                self.bump(&username);
                Ok(Reply::Done)
            }
            Request::LeaveRoom { room }
                if self.invitations.remove(&(name.clone(), room.clone())) =>
            {
                Ok(Reply::Done)
            }
            Request::LeaveRoom { room } => {
                self.record(&room, MembershipOp::Leave { username: name.clone() });
                Ok(Reply::Done)
            }
            Request::Kick { room, username } => {
                self.record(&room, MembershipOp::Kick { username, by: name.clone() });
                Ok(Reply::Done)
            }
            Request::RoomMembers { room, after_epoch } => self.room(&room, after_epoch),
            _ => Err(no(Code::Usage)),
        }
    }

    /// Loses an account, and its session with it, as one does that is restored from a backup.
    pub(in crate::core) fn lose_account(&mut self, name: &Username) {
        self.accounts.remove(name).expect("an account");
    }

    /// Loses the newest record of a room, as one does that is restored from a backup.
    pub(in crate::core) fn lose_record(&mut self, room: &RoomName) {
        self.rooms.get_mut(room).and_then(Vec::pop).expect("a room with a log");
    }

    fn member(&self, name: &Username, role: Role) -> Member {
        let binding = &self.accounts[name].binding;
        let (peer_key, room_key) = (binding.peer_key, binding.room_key);
        Member { username: name.clone(), peer_key, room_key, role }
    }

    fn record(&mut self, name: &RoomName, op: MembershipOp) {
        let versions: u64 = self.accounts.values().map(|row| row.version).sum();
        let made =
            Digest::derive("test room", &[name.as_str().as_bytes(), &versions.to_le_bytes()]);
        let log = self.rooms.get_mut(name).expect("a room");
        let before = Room::from_log(log, &self.key.public()).ok();
        let record = MembershipRecord {
            room: before.as_ref().map_or(RoomId(made), |room| room.id),
            name: name.clone(),
            epoch: log.len() as u64 + 1,
            previous: log.last().map(|r| Digest(r.hash())),
            time_ms: 0,
            op,
        };
        log.push(Signed::seal(&record, &self.key));
        let after = Room::from_log(log, &self.key.public()).expect("our own log");
        let names: BTreeSet<Username> = before
            .iter()
            .chain([&after])
            .flat_map(|room| room.members().map(|m| m.username.clone()))
            .collect();
        for name in names {
            self.bump(&name);
        }
    }

    fn room(&self, name: &RoomName, after: u64) -> Result<Reply, Failure> {
        let log = self.rooms.get(name).ok_or(no(Code::NotFound))?;
        let room = Room::from_log(log, &self.key.public()).expect("our own log");
        let members = room.members().map(|member| {
            let row = &self.accounts[&member.username];
            let presence = if row.online { PresenceState::Online } else { PresenceState::Offline };
            RoomMember { member: member.clone(), addresses: row.endpoints.room.clone(), presence }
        });
        Ok(Reply::Room(RoomView {
            id: room.id,
            room: name.clone(),
            epoch: room.epoch,
            log: log
                .iter()
                .skip(usize::try_from(after).expect("small"))
                .take(self.page)
                .cloned()
                .collect(),
            members: members.collect(),
        }))
    }

    fn sync(&mut self, name: &Username) -> Result<Reply, Failure> {
        let mut rooms = Vec::new();
        for log in self.rooms.values().filter(|_| !self.hide_rooms) {
            let room = Room::from_log(log, &self.key.public()).expect("our own log");
            let Some(member) = room.member(name) else { continue };
            rooms.push(RoomListing {
                id: room.id,
                room: room.name.clone(),
                access: room.access,
                role: member.role,
                members: 1,
                epoch: room.epoch,
            });
        }
        let row = self.accounts.get_mut(name).expect("an account");
        let (version, epoch) = (row.version, row.epoch);
        let came = std::mem::take(&mut row.came);
        let online = came.iter().filter_map(|n| self.view(n).ok()).collect();
        let own = self.invitations.iter().filter(|(guest, _)| guest == name);
        let invited = own.map(|(_, room)| room.clone()).collect();
        Ok(Reply::Sync(SyncReply { version, epoch, rooms, invited, online }))
    }
}
