//! What the operator does: invitations, accounts without a device, disabled ones, pages of everything.

use tokio::task::JoinSet;

use super::*;
use crate::store::{AccountState, CodeHash, NewInvite};

async fn invite(store: &Store, uses: u32, expires_ms: u64) -> (u64, CodeHash) {
    let new = NewInvite { uses, expires_ms, note: "for a friend".to_owned() };
    let (invite, code) = store.create_invite(new, 0).await.expect("made");
    assert_eq!((invite.uses, invite.used, invite.revoked), (uses, 0, false));
    (invite.id, CodeHash::of(&code))
}

fn invited(username: &str, seed: u8, code: CodeHash) -> NewAccount {
    NewAccount { invite: Some(code), ..new_account(username, seed) }
}

pub(super) async fn of_many_with_one_invitation_as_many_get_in_as_it_has_uses(
    mut engine: impl Engine,
) {
    let store = engine.open();
    let (id, code) = invite(&store, 3, HOUR_MS).await;
    let mut tasks = JoinSet::new();
    for n in 0..12 {
        let (store, new) = (store.clone(), invited(&format!("user{n}"), 10 + n, code));
        tasks.spawn(async move { store.create_account(new, 1).await.map(|(p, _)| p) });
    }
    let (made, refused): (Vec<_>, Vec<_>) =
        tasks.join_all().await.into_iter().partition(Result::is_ok);
    assert_eq!(made.len(), 3, "{made:?}");
    for result in refused {
        assert_eq!(rule(result), Rule::InviteInvalid);
    }
    let store = engine.open();
    let listed = store.invites(0, 10).await.expect("readable");
    assert_eq!((listed[0].id, listed[0].used), (id, 3), "it is there after a start");
    assert_eq!(store.account_rows(None, 100).await.expect("readable").len(), 3);
}

pub(super) async fn an_invitation_ends_with_its_time_or_when_it_is_taken_back(
    mut engine: impl Engine,
) {
    let store = engine.open();
    let (id, code) = invite(&store, 9, HOUR_MS).await;
    store.check_invite(code, HOUR_MS - 1).await.expect("until then");
    assert_eq!(rule(store.check_invite(code, HOUR_MS).await), Rule::InviteInvalid);
    let late = store.create_account(invited("ann", 1, code), HOUR_MS).await;
    assert_eq!(rule(late), Rule::InviteInvalid);
    let (ann, _) = store.create_account(invited("ann", 1, code), 1).await.expect("in time");
    let taken = store.create_account(invited("ann", 2, code), 1).await;
    assert_eq!(rule(taken), Rule::UsernameTaken);
    let revoked = store.revoke_invite(id).await.expect("known");
    assert_eq!((revoked.used, revoked.revoked), (1, true), "what failed took no use");
    assert_eq!(rule(store.create_account(invited("bob", 2, code), 1).await), Rule::InviteInvalid);
    assert_eq!(rule(store.check_invite(CodeHash::of("guess"), 1).await), Rule::InviteInvalid);
    assert_eq!(rule(store.revoke_invite(id + 1).await), Rule::NoInvite);
    let row = store.account_row(&ann.username).await.expect("it stays");
    assert_eq!(row.invited_by, Some(id));
}

pub(super) async fn an_account_without_a_device_is_there_from_its_first_login_on(
    mut engine: impl Engine,
) {
    let store = engine.open();
    let row = store.add_user(&name("ann"), "hash".to_owned(), 7).await.expect("a free name");
    assert_eq!((row.state, row.created_ms, row.key), (AccountState::New, 7, None));
    assert_eq!(rule(store.add_user(&name("ann"), "hash".to_owned(), 7).await), Rule::UsernameTaken);
    assert_eq!(rule(store.create_account(new_account("ann", 1), 7).await), Rule::UsernameTaken);
    assert!(find(&store, "ann", 7).await.is_none(), "nobody can verify it");
    let bob = create(&store, "bob", 2).await;

    let request = |seed| LoginRequest {
        account: row.account,
        binding: binding("ann", seed),
        attempt: Digest([seed; 32]),
        endpoints: endpoints(seed),
        entry: Entry::Free,
    };
    let stolen = LoginRequest { binding: binding("bob", 2), ..request(2) };
    assert_eq!(rule(store.login(stolen, 8).await), Rule::KeyTaken);
    let opened = store.login(request(1), 8).await.expect("its first device");
    assert_eq!((opened.profile.serial, opened.profile.epoch), (1, 1));
    assert_eq!(find(&store, "ann", 9).await.expect("there").account, row.account);
    let row = store.account_row(&name("ann")).await.expect("known");
    assert_eq!((row.state, row.key), (AccountState::Active, Some(key(1))));
    assert_ne!(row.account, bob.account);
}

pub(super) async fn a_disabled_account_has_no_session_and_gets_none(mut engine: impl Engine) {
    let store = engine.open();
    let (ann, opened) = member(&store, "ann", 1).await;
    let ended = store.disable_user(&name("ann")).await.expect("known");
    assert_eq!((ended.account, ended.epoch, ended.had_session), (ann, opened.profile.epoch, true));
    assert_eq!(ended.bumped.len(), 1, "its device is told");
    let store = engine.open();
    assert!(store.session_rows(None, 10).await.expect("readable").is_empty());
    assert_eq!(rule(store.resume(resume(1, 9), 1).await), Rule::NoSession);
    let request = login(&opened.profile, 1, 9, Entry::Free);
    assert_eq!(rule(store.login(request, 1).await), Rule::Disabled);
    assert!(!store.disable_user(&name("ann")).await.expect("again").had_session);
    store.enable_user(&name("ann")).await.expect("known");
    let request = login(&opened.profile, 1, 10, Entry::Free);
    assert_eq!(store.login(request, 1).await.expect("let in").profile.epoch, ended.epoch + 1);
    assert_eq!(rule(store.enable_user(&name("bob")).await), Rule::NoUser);
}

pub(super) async fn pages_hold_each_once_in_order(mut engine: impl Engine) {
    let store = engine.open();
    for (at, username) in ["eve", "ann", "dan", "bob"].into_iter().enumerate() {
        member(&store, username, at as u8 + 1).await;
    }
    let rows = store.account_rows(Some(&name("ann")), 2).await.expect("readable");
    let names: Vec<_> = rows.iter().map(|row| row.username.as_str()).collect();
    assert_eq!(names, ["bob", "dan"]);
    let sessions = store.session_rows(Some(&name("eve")), 2).await.expect("readable");
    let names: Vec<_> = sessions.iter().map(|row| row.username.as_str()).collect();
    assert_eq!(names, ["ann", "dan"], "in the order in which the accounts were made");
    assert_eq!(rule(store.session_rows(Some(&name("nobody")), 2).await), Rule::NoUser);

    store.kick(&name("dan")).await.expect("a session");
    assert_eq!(rule(store.kick(&name("dan")).await), Rule::NoSession);
    let (ended, _) = store.remove_user(&name("ann"), 1).await.expect("known");
    assert!(ended.had_session);
    assert_eq!(rule(store.remove_user(&name("ann"), 1).await), Rule::NoUser);
    let sessions = store.session_rows(Some(&name("eve")), 9).await.expect("readable");
    assert_eq!(sessions.len(), 1, "bob's");
    let rows = store.account_rows(None, 9).await.expect("readable");
    assert_eq!((rows.len(), rows[0].state), (4, AccountState::Deleted), "a name stays taken");
}
