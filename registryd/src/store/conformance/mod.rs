//! What every store does, whatever engine is behind it: rules, races, durability, idempotency, paging.
//!
//! Each rule is a function over an [`Engine`], which speaks to the store by its public methods alone. A new
//! engine implements the trait and adds one line at the end of this file; what is true of SQLite alone is in
//! `store/tests.rs`.

mod accounts;
mod operator;
mod rooms;
mod sessions;

use std::sync::Arc;

use registryd_proto::{Digest, Endpoints, KeyBinding, Keypair, PublicKey, RoomName, Username};
use tempfile::TempDir;

use super::{
    AccountId, Contact, Entry, LoginRequest, Memory, NewAccount, OpenedSession, Profile,
    ResumeRequest, Rule, Standing, Store, StoreError,
};
use crate::{instance::Begun, random::Random};

/// A place where a store can be, and come back to.
trait Engine {
    /// An empty one.
    fn begin() -> Self;

    /// The store with all that was committed; the ones opened before are not used any more.
    fn open(&mut self) -> Store;
}

/// SQLite in a file, as in production.
struct File {
    folder: TempDir,
    begun: Begun,
}

impl Engine for File {
    fn begin() -> Self {
        Self { folder: tempfile::tempdir().expect("temporary folder"), begun: Begun::Anew }
    }

    fn open(&mut self) -> Store {
        let path = self.folder.path().join("registry.db");
        let begun = std::mem::replace(&mut self.begun, Begun::Before);
        Store::open(&path, Arc::new(registry()), begun).expect("opened")
    }
}

/// SQLite in memory, as simulators use it.
struct InMemory(Option<Memory>);

impl Engine for InMemory {
    fn begin() -> Self {
        Self(None)
    }

    fn open(&mut self) -> Store {
        let keys = Arc::new(registry());
        let (memory, store) = match &self.0 {
            None => Memory::new(&keys, &Random::System),
            Some(before) => Memory::open(&before.image(), Begun::Before, &keys, &Random::System),
        };
        self.0 = Some(memory);
        store
    }
}

const HOUR_MS: u64 = 60 * 60 * 1000;

fn registry() -> Keypair {
    Keypair::from_secret(&[1; 32])
}

fn name(text: &str) -> Username {
    text.parse().expect("name")
}

fn room_name(text: &str) -> RoomName {
    text.parse().expect("name")
}

/// The keys of a device; each seed is another one.
fn binding(username: &str, seed: u8) -> KeyBinding {
    let [peer, room] = [1, 2].map(|kind| {
        Keypair::from_secret(&[[seed; 16], [kind; 16]].concat().try_into().expect("32"))
    });
    KeyBinding::new(&registry().public(), &name(username), &peer, &room)
}

fn key(seed: u8) -> PublicKey {
    binding("any", seed).peer_key
}

fn new_account(username: &str, seed: u8) -> NewAccount {
    NewAccount {
        username: name(username),
        password_hash: format!("hash of {username}"),
        binding: binding(username, seed),
        invite: None,
    }
}

async fn create(store: &Store, username: &str, seed: u8) -> Profile {
    store.create_account(new_account(username, seed), 0).await.expect("free name and key").0
}

fn login(profile: &Profile, seed: u8, attempt: u8, entry: Entry) -> LoginRequest {
    LoginRequest {
        account: profile.account,
        binding: binding(profile.username.as_str(), seed),
        attempt: Digest([attempt; 32]),
        endpoints: endpoints(attempt),
        entry,
    }
}

fn resume(seed: u8, attempt: u8) -> ResumeRequest {
    ResumeRequest {
        key: key(seed),
        attempt: Digest([attempt; 32]),
        endpoints: endpoints(attempt),
        serial: 0,
        epoch: 0,
    }
}

fn endpoints(last: u8) -> Endpoints {
    Endpoints { peer: vec![([192, 0, 2, last], 1).into()], room: Vec::new() }
}

/// An account that is logged in with the device it was made on.
async fn member(store: &Store, username: &str, seed: u8) -> (AccountId, OpenedSession) {
    let profile = create(store, username, seed).await;
    let opened = store.login(login(&profile, seed, seed, Entry::Free), 0).await.expect("opened");
    (profile.account, opened)
}

async fn find(store: &Store, username: &str, now_ms: u64) -> Option<Contact> {
    let found = store.search(key(255), vec![name(username)], now_ms).await.expect("readable");
    assert_eq!(found.standing, Standing::Unknown);
    found.contacts.into_iter().next().expect("one for each name")
}

/// The rule that stood in the way.
fn rule<T: std::fmt::Debug>(result: Result<T, StoreError>) -> Rule {
    match result {
        Err(StoreError::Rule(rule)) => rule,
        other => panic!("no rule stood in the way: {other:?}"),
    }
}

/// Every rule as a test of every engine.
macro_rules! hold {
    ($($area:ident: $($rule:ident)*;)*) => {
        hold!(@engine file File $($($area $rule)*)*);
        hold!(@engine memory InMemory $($($area $rule)*)*);
    };
    (@engine $engine:ident $begin:ident $($area:ident $rule:ident)*) => {
        mod $engine {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $rule() {
                    $area::$rule($begin::begin()).await;
                }
            )*
        }
    };
}

hold! {
    accounts:
        a_name_and_a_key_are_taken_once
        of_many_that_want_one_name_or_key_one_gets_it
        a_password_is_checked_against_the_newest_hash
        a_deleted_account_keeps_its_name_and_nothing_else
        versions_grow_one_by_one_in_the_order_asked
        a_search_answers_each_name_in_its_place
        a_card_is_kept_for_half_of_its_life
        a_card_follows_the_keys;
    sessions:
        the_same_attempt_opens_the_same_session
        epochs_and_salts_never_come_twice
        another_device_gets_in_when_it_may_and_replaces_the_key
        of_two_devices_that_log_in_at_once_one_gets_in
        a_session_ends_by_logout_and_begins_by_login
        a_key_of_another_account_is_refused
        keys_that_were_replaced_long_ago_are_forgotten
        what_was_answered_is_there_after_a_start;
    rooms:
        a_room_name_is_taken_once_until_it_is_deleted
        who_may_join_does_so_once
        roles_decide
        an_owner_leaves_last
        a_long_log_comes_in_pages
        new_keys_are_in_the_log_of_every_room
        rooms_and_invitations_are_listed
        one_owner_takes_few_places_of_a_guest
        rooms_that_are_passed_on_take_no_more_places
        who_is_invited_may_decline;
    operator:
        of_many_with_one_invitation_as_many_get_in_as_it_has_uses
        an_invitation_ends_with_its_time_or_when_it_is_taken_back
        an_account_without_a_device_is_there_from_its_first_login_on
        a_disabled_account_has_no_session_and_gets_none
        pages_hold_each_once_in_order;
}
