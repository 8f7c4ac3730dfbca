//! The membership log of a room: records that the registry signs, each naming the hash of the one before.
//!
//! Members keep the log and pass it on. [`Room`] is the log folded: who is a member now, and who was at
//! each epoch. It accepts records in order only, so a shorter, longer or different log is told apart.
//!
//! Invariant: `Room::epoch` counts the records applied; record n has epoch n, the first is `create`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    digest::Digest,
    key::PublicKey,
    name::{RoomName, Username},
    signed::{Document, Signed, SignedError},
};

/// The id of a room, drawn by the registry: 32 random bytes. A name can be used again after a delete, an
/// id never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RoomId(pub Digest);

/// Who may join.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Anybody with an account.
    Open,
    /// Who knows the room's password.
    Password,
    /// Who was invited by the owner or a moderator.
    Invite,
}

/// What a joiner may read of the time before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HistoryAccess {
    /// Nothing from before the join.
    Joined,
    /// Everything the members still hold.
    All,
}

/// What a member may do. Ordered: a higher role may do all that a lower one may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Read and write.
    Member,
    /// Invite, and kick members.
    Moderator,
    /// All, with roles and delete. Exactly one.
    Owner,
}

/// A member as the log names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The account.
    pub username: Username,
    /// Signs the member's entries.
    pub peer_key: PublicKey,
    /// Id of the member's room endpoint.
    pub room_key: PublicKey,
    /// What it may do.
    pub role: Role,
}

/// One change of a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum MembershipOp {
    /// The first record.
    Create {
        /// The first member, with the role `owner`.
        owner: Member,
        /// Who may join.
        access: Access,
        /// What a joiner may read.
        history: HistoryAccess,
    },
    /// A member more.
    Join {
        /// The new member.
        member: Member,
    },
    /// A member left by its own will, or its account was deleted.
    Leave {
        /// Who.
        username: Username,
    },
    /// A member was removed.
    Kick {
        /// Who.
        username: Username,
        /// By whom.
        by: Username,
    },
    /// A member's role changed. Giving `owner` away makes the giver a moderator.
    SetRole {
        /// Whose.
        username: Username,
        /// The new role.
        role: Role,
        /// By whom.
        by: Username,
    },
    /// A member's keys changed (another device took over the account).
    Rebind {
        /// Whose.
        username: Username,
        /// The new peer key.
        peer_key: PublicKey,
        /// The new room key.
        room_key: PublicKey,
    },
    /// The room is gone. Nothing follows.
    Delete {
        /// By whom.
        by: Username,
    },
}

/// One record of the log, signed by the registry as [`Signed<MembershipRecord>`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembershipRecord {
    /// Which room.
    pub room: RoomId,
    /// Its name.
    pub name: RoomName,
    /// 1, 2, 3 … without a gap.
    pub epoch: u64,
    /// [`Signed::hash`] of the record before; `None` in the first.
    pub previous: Option<Digest>,
    /// Registry time, milliseconds since 1970.
    pub time_ms: u64,
    /// What changed.
    #[serde(flatten)]
    pub op: MembershipOp,
}

impl Document for MembershipRecord {
    const DOMAIN: &'static str = "p2pchat membership record 1";
}

/// Why a record does not continue a log.
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    /// Signature or format.
    #[error(transparent)]
    Signed(#[from] SignedError),
    /// A record is missing in between.
    #[error("membership record {found} does not follow epoch {held}")]
    Gap {
        /// The newest epoch held.
        held: u64,
        /// The epoch offered.
        found: u64,
    },
    /// Another record with an epoch that is held: the registry equivocates, or was restored.
    #[error("the registry signed two different membership records for epoch {epoch}")]
    Diverged {
        /// The epoch.
        epoch: u64,
    },
    /// The record is signed, but makes no sense at its place.
    #[error("membership record {epoch} contradicts the log before it")]
    Contradiction {
        /// The epoch.
        epoch: u64,
    },
}

/// One span of epochs in which a key was a member.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tenure {
    username: Username,
    peer_key: PublicKey,
    from_epoch: u64,
    /// The first epoch at which it is no member any more.
    until_epoch: Option<u64>,
}

/// A membership log, checked and folded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    /// The room's id.
    pub id: RoomId,
    /// The room's name.
    pub name: RoomName,
    /// Who may join.
    pub access: Access,
    /// What a joiner may read.
    pub history: HistoryAccess,
    /// The number of records applied.
    pub epoch: u64,
    /// Whether the last record is `delete`.
    pub deleted: bool,
    members: BTreeMap<Username, Member>,
    tenures: Vec<Tenure>,
    hashes: Vec<Digest>,
}

impl Room {
    /// Folds a whole log.
    ///
    /// # Errors
    /// [`MembershipError`] of the first record that does not fit.
    pub fn from_log(
        log: &[Signed<MembershipRecord>],
        registry: &PublicKey,
    ) -> Result<Room, MembershipError> {
        let (first, rest) = log.split_first().ok_or(MembershipError::Gap { held: 0, found: 0 })?;
        let record = first.open(registry)?;
        let MembershipOp::Create { owner, access, history } = record.op else {
            return Err(MembershipError::Contradiction { epoch: record.epoch });
        };
        if record.epoch != 1 || record.previous.is_some() || owner.role != Role::Owner {
            return Err(MembershipError::Contradiction { epoch: record.epoch });
        }
        let mut room = Room {
            id: record.room,
            name: record.name,
            access,
            history,
            epoch: 1,
            deleted: false,
            members: BTreeMap::new(),
            tenures: Vec::new(),
            hashes: vec![Digest(first.hash())],
        };
        room.admit(owner);
        for record in rest {
            room.apply(record, registry)?;
        }
        Ok(room)
    }

    /// Applies one record. `Ok(false)`: it is held already.
    ///
    /// # Errors
    /// [`MembershipError`]; the room is unchanged then.
    pub fn apply(
        &mut self,
        signed: &Signed<MembershipRecord>,
        registry: &PublicKey,
    ) -> Result<bool, MembershipError> {
        let record = signed.open(registry)?;
        let epoch = record.epoch;
        let hash = Digest(signed.hash());
        if record.room != self.id || record.name != self.name || epoch == 0 {
            return Err(MembershipError::Contradiction { epoch });
        }
        if let Some(held) = self.hashes.get(epoch as usize - 1) {
            return match *held == hash {
                true => Ok(false),
                false => Err(MembershipError::Diverged { epoch }),
            };
        }
        if epoch != self.epoch + 1 {
            return Err(MembershipError::Gap { held: self.epoch, found: epoch });
        }
        if record.previous != self.hashes.last().copied() {
            return Err(MembershipError::Diverged { epoch: self.epoch });
        }
        self.check(&record.op, epoch)?;
        self.epoch = epoch;
        self.hashes.push(hash);
        self.change(record.op);
        Ok(true)
    }

    /// The members now, by name.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// A member now.
    pub fn member(&self, username: &Username) -> Option<&Member> {
        self.members.get(username)
    }

    /// The member now whose room endpoint has this key.
    pub fn member_by_room_key(&self, room_key: &PublicKey) -> Option<&Member> {
        self.members.values().find(|m| m.room_key == *room_key)
    }

    /// The member now whose entries this key signs.
    pub fn member_by_peer_key(&self, peer_key: &PublicKey) -> Option<&Member> {
        self.members.values().find(|m| m.peer_key == *peer_key)
    }

    /// Whether `peer_key` was a member at `epoch`.
    pub fn was_member(&self, peer_key: &PublicKey, epoch: u64) -> bool {
        self.tenures.iter().any(|t| t.peer_key == *peer_key && t.covers(epoch))
    }

    /// The names that were members at `epoch`, with the key that each had then.
    pub fn members_at(&self, epoch: u64) -> impl Iterator<Item = (&Username, &PublicKey)> {
        self.tenures.iter().filter(move |t| t.covers(epoch)).map(|t| (&t.username, &t.peer_key))
    }

    /// The name under which a key was last a member, for showing who wrote an old entry.
    pub fn name_of(&self, peer_key: &PublicKey) -> Option<&Username> {
        self.tenures.iter().rev().find(|t| t.peer_key == *peer_key).map(|t| &t.username)
    }

    /// The hash of the newest record.
    pub fn head(&self) -> Digest {
        *self.hashes.last().expect("a room begins with its create record")
    }

    fn check(&self, op: &MembershipOp, epoch: u64) -> Result<(), MembershipError> {
        let known = |name: &Username| self.members.contains_key(name);
        let fits = !self.deleted
            && match op {
                MembershipOp::Create { .. } => false,
                MembershipOp::Join { member } => {
                    !known(&member.username) && member.role != Role::Owner
                }
                MembershipOp::Leave { username }
                | MembershipOp::Kick { username, .. }
                | MembershipOp::SetRole { username, .. }
                | MembershipOp::Rebind { username, .. } => known(username),
                MembershipOp::Delete { .. } => true,
            };
        if fits { Ok(()) } else { Err(MembershipError::Contradiction { epoch }) }
    }

    fn change(&mut self, op: MembershipOp) {
        match op {
            MembershipOp::Create { .. } => {}
            MembershipOp::Join { member } => self.admit(member),
            MembershipOp::Leave { username } | MembershipOp::Kick { username, .. } => {
                self.members.remove(&username);
                self.close(&username);
            }
            MembershipOp::SetRole { username, role, .. } => {
                if role == Role::Owner {
                    for member in self.members.values_mut().filter(|m| m.role == Role::Owner) {
                        member.role = Role::Moderator;
                    }
                }
                if let Some(member) = self.members.get_mut(&username) {
                    member.role = role;
                }
            }
            MembershipOp::Rebind { username, peer_key, room_key } => {
                self.close(&username);
                if let Some(mut member) = self.members.remove(&username) {
                    member.peer_key = peer_key;
                    member.room_key = room_key;
                    self.admit(member);
                }
            }
            MembershipOp::Delete { .. } => {
                self.deleted = true;
                for name in std::mem::take(&mut self.members).into_keys() {
                    self.close(&name);
                }
            }
        }
    }

    fn admit(&mut self, member: Member) {
        self.tenures.push(Tenure {
            username: member.username.clone(),
            peer_key: member.peer_key,
            from_epoch: self.epoch,
            until_epoch: None,
        });
        self.members.insert(member.username.clone(), member);
    }

    fn close(&mut self, username: &Username) {
        let epoch = self.epoch;
        let open = |t: &&mut Tenure| t.username == *username && t.until_epoch.is_none();
        if let Some(tenure) = self.tenures.iter_mut().find(open) {
            tenure.until_epoch = Some(epoch);
        }
    }
}

impl Tenure {
    fn covers(&self, epoch: u64) -> bool {
        self.from_epoch <= epoch && self.until_epoch.is_none_or(|until| epoch < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Keypair;

    fn keys(seed: u8) -> Keypair {
        Keypair::from_secret(&[seed; 32])
    }

    fn member(name: &str, seed: u8, role: Role) -> Member {
        Member {
            username: name.parse().expect("name"),
            peer_key: keys(seed).public(),
            room_key: keys(seed + 100).public(),
            role,
        }
    }

    fn chain(ops: Vec<MembershipOp>) -> Vec<Signed<MembershipRecord>> {
        let mut log: Vec<Signed<MembershipRecord>> = Vec::new();
        for (i, op) in ops.into_iter().enumerate() {
            let record = MembershipRecord {
                room: RoomId(Digest([9; 32])),
                name: "den".parse().expect("name"),
                epoch: i as u64 + 1,
                previous: log.last().map(|r| Digest(r.hash())),
                time_ms: 0,
                op,
            };
            log.push(Signed::seal(&record, &keys(1)));
        }
        log
    }

    fn create() -> MembershipOp {
        MembershipOp::Create {
            owner: member("ann", 2, Role::Owner),
            access: Access::Open,
            history: HistoryAccess::Joined,
        }
    }

    fn join(name: &str, seed: u8) -> MembershipOp {
        MembershipOp::Join { member: member(name, seed, Role::Member) }
    }

    #[test]
    fn tenure_follows_join_kick_and_rebind() {
        let bob = || "bob".parse::<Username>().expect("name");
        let log = chain(vec![
            create(),
            join("bob", 3),
            MembershipOp::Kick { username: bob(), by: "ann".parse().expect("name") },
            join("bob", 3),
            MembershipOp::Rebind {
                username: bob(),
                peer_key: keys(7).public(),
                room_key: keys(8).public(),
            },
        ]);
        let room = Room::from_log(&log, &keys(1).public()).expect("log");
        let spans: Vec<bool> = (1..=5).map(|e| room.was_member(&keys(3).public(), e)).collect();
        assert_eq!(spans, [false, true, false, true, false]);
        assert!(room.was_member(&keys(7).public(), 5));
        assert_eq!(room.members_at(3).count(), 1);
        assert_eq!(room.name_of(&keys(3).public()), Some(&bob()));
    }

    #[test]
    fn a_rewritten_or_gapped_log_is_told_apart() {
        let registry = keys(1).public();
        let mut room =
            Room::from_log(&chain(vec![create(), join("bob", 3)]), &registry).expect("log");
        let held = room.clone();
        let other = chain(vec![create(), join("eve", 4), join("bob", 3)]);
        assert!(matches!(
            room.apply(&other[1], &registry),
            Err(MembershipError::Diverged { epoch: 2 })
        ));
        assert!(matches!(
            room.apply(&other[2], &registry),
            Err(MembershipError::Diverged { epoch: 2 })
        ));
        let long = chain(vec![create(), join("bob", 3), join("c", 4), join("d", 5)]);
        assert!(matches!(
            room.apply(&long[3], &registry),
            Err(MembershipError::Gap { held: 2, found: 4 })
        ));
        assert!(room.apply(&long[2], &keys(2).public()).is_err(), "another signer");
        assert_eq!(room, held);
        assert!(!room.apply(&long[1], &registry).expect("held already"));
        assert!(room.apply(&long[2], &registry).expect("next"));
    }

    #[test]
    fn nothing_follows_a_delete() {
        let log = chain(vec![
            create(),
            MembershipOp::Delete { by: "ann".parse().expect("name") },
            join("bob", 3),
        ]);
        assert!(matches!(
            Room::from_log(&log, &keys(1).public()),
            Err(MembershipError::Contradiction { epoch: 3 })
        ));
    }
}
