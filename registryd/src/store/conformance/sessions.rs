//! Sessions: login, resume, logout, and what a start finds.

use std::{collections::BTreeSet, time::Duration};

use super::*;

pub(super) async fn the_same_attempt_opens_the_same_session(mut engine: impl Engine) {
    let store = engine.open();
    let ann = create(&store, "ann", 1).await;
    let first = store.login(login(&ann, 1, 7, Entry::Free), 0).await.expect("opened");
    for store in [store, engine.open()] {
        let again = store.login(login(&ann, 1, 7, Entry::Occupied), 0).await.expect("the same");
        assert_eq!((again.profile.epoch, again.salt), (first.profile.epoch, first.salt));
        assert_eq!(again.card, first.card);
    }
    let store = engine.open();
    let resumed = store.resume(resume(1, 8), 0).await.expect("opened");
    assert_eq!(resumed.profile.epoch, first.profile.epoch + 1);
    for store in [store, engine.open()] {
        let again = store.resume(resume(1, 8), 0).await.expect("the same");
        assert_eq!((again.profile.epoch, again.salt), (resumed.profile.epoch, resumed.salt));
    }
}

pub(super) async fn epochs_and_salts_never_come_twice(mut engine: impl Engine) {
    let store = engine.open();
    let (ann, opened) = member(&store, "ann", 1).await;
    let mut salts = BTreeSet::from([opened.salt]);
    let mut epoch = opened.profile.epoch;
    for attempt in 10..20 {
        let next = match attempt % 2 {
            0 => store.resume(resume(1, attempt), 0).await,
            _ => store.login(login(&opened.profile, 1, attempt, Entry::Occupied), 0).await,
        };
        let next = next.expect("opened");
        assert_eq!(next.profile.epoch, epoch + 1);
        assert_eq!(next.profile.endpoints, endpoints(attempt));
        assert!(salts.insert(next.salt), "a salt came twice");
        epoch = next.profile.epoch;
    }
    // A peer that has seen more than the registry, which came out of a backup.
    let ahead = ResumeRequest { serial: 5, epoch: 100, ..resume(1, 50) };
    let ahead = store.resume(ahead, 0).await.expect("opened");
    assert_eq!((ahead.profile.serial, ahead.profile.epoch), (5, 101));
    store.logout(key(1)).await.expect("ended");
    let back = store.login(login(&opened.profile, 1, 51, Entry::Free), 0).await.expect("opened");
    assert_eq!((back.profile.account, back.profile.epoch), (ann, 102), "over a logout as well");
}

pub(super) async fn another_device_gets_in_when_it_may_and_replaces_the_key(
    mut engine: impl Engine,
) {
    let store = engine.open();
    let (ann, opened) = member(&store, "ann", 1).await;
    let refused = store.login(login(&opened.profile, 2, 7, Entry::Occupied), 0).await;
    assert_eq!(rule(refused), Rule::OnlineElsewhere);
    assert_eq!(store.standing(&key(2)).await.expect("readable"), Standing::Unknown);
    let taken = store.login(login(&opened.profile, 2, 7, Entry::Free), 0).await.expect("opened");
    assert_eq!(taken.profile.serial, opened.profile.serial + 1);
    for store in [store, engine.open()] {
        assert_eq!(store.standing(&key(1)).await.expect("readable"), Standing::Superseded);
        assert_eq!(store.standing(&key(2)).await.expect("readable"), Standing::Session(ann));
        assert_eq!(rule(store.resume(resume(1, 9), 0).await), Rule::Superseded);
        assert_eq!(rule(store.logout(key(1)).await), Rule::Superseded);
        assert_eq!(
            store.sessions(AccountId(0), 100).await.expect("readable").len(),
            1,
            "the new one stays"
        );
    }
    let store = engine.open();
    let back = store.login(login(&taken.profile, 1, 10, Entry::Free), 0).await.expect("opened");
    assert_eq!(back.profile.serial, taken.profile.serial + 1, "the first device comes back");
    assert_eq!(store.standing(&key(2)).await.expect("readable"), Standing::Superseded);
}

pub(super) async fn of_two_devices_that_log_in_at_once_one_gets_in(mut engine: impl Engine) {
    let store = engine.open();
    let ann = create(&store, "ann", 1).await;
    let [one, two] = [2, 3].map(|seed| store.login(login(&ann, seed, seed, Entry::Occupied), 0));
    let (one, two) = tokio::join!(one, two);
    let (winner, loser, seed) = if one.is_ok() { (one, two, 2) } else { (two, one, 3) };
    winner.expect("one gets in");
    assert_eq!(rule(loser), Rule::OnlineElsewhere);
    let standing = store.standing(&key(seed)).await.expect("readable");
    assert_eq!(standing, Standing::Session(ann.account));
}

pub(super) async fn a_session_ends_by_logout_and_begins_by_login(mut engine: impl Engine) {
    let store = engine.open();
    let (ann, opened) = member(&store, "ann", 1).await;
    let ended = store.logout(key(1)).await.expect("ended");
    assert_eq!((ended.account, ended.epoch), (ann, opened.profile.epoch));
    for store in [store, engine.open()] {
        assert_eq!(store.standing(&key(1)).await.expect("readable"), Standing::LoggedOut);
        assert_eq!(rule(store.logout(key(1)).await), Rule::NoSession);
        assert_eq!(rule(store.resume(resume(1, 9), 0).await), Rule::NoSession);
        assert!(store.sessions(AccountId(0), 100).await.expect("readable").is_empty());
    }
    let store = engine.open();
    let another = login(&opened.profile, 2, 9, Entry::Occupied);
    store.login(another, 0).await.expect("nobody is there");
    assert_eq!(rule(store.resume(resume(77, 9), 0).await), Rule::NoSession);
    assert_eq!(rule(store.logout(key(77)).await), Rule::NoSession);
}

pub(super) async fn a_key_of_another_account_is_refused(mut engine: impl Engine) {
    let store = engine.open();
    let (_, ann) = member(&store, "ann", 1).await;
    let (_, bob) = member(&store, "bob", 2).await;
    store.login(login(&bob.profile, 3, 9, Entry::Free), 0).await.expect("a new device");
    for foreign in [2, 3] {
        let refused = store.login(login(&ann.profile, foreign, 9, Entry::Free), 0).await;
        assert_eq!(rule(refused), Rule::KeyTaken, "one that was replaced as well");
    }
    let [one, two] =
        [&ann, &bob].map(|who| store.login(login(&who.profile, 4, 10, Entry::Free), 0));
    let (one, two) = tokio::join!(one, two);
    let loser = if one.is_ok() { two } else { one };
    assert_eq!(rule(loser), Rule::KeyTaken, "two want one key at once");
}

pub(super) async fn keys_that_were_replaced_long_ago_are_forgotten(mut engine: impl Engine) {
    let store = engine.open();
    let (ann, opened) = member(&store, "ann", 1).await;
    for seed in 2..=50 {
        let next = login(&opened.profile, seed, seed, Entry::Free);
        store.login(next, 0).await.expect("a new device");
    }
    let standing = async |seed| store.standing(&key(seed)).await.expect("readable");
    assert_eq!(standing(50).await, Standing::Session(ann));
    assert_eq!(standing(49).await, Standing::Superseded);
    assert_eq!(standing(30).await, Standing::Superseded);
    assert_eq!(standing(1).await, Standing::Unknown);
    let back = store.login(login(&opened.profile, 1, 60, Entry::Free), 0).await;
    assert_eq!(back.expect("the first device again").profile.serial, 51);
    assert_eq!(standing(1).await, Standing::Session(ann));
}

pub(super) async fn what_was_answered_is_there_after_a_start(mut engine: impl Engine) {
    let store = engine.open();
    assert_eq!(store.interval().await.expect("readable"), None);
    let secret = store.hello_secret().await.expect("drawn");
    let mut opened = Vec::new();
    for seed in 1..=20 {
        opened.push(member(&store, &format!("user{seed}"), seed).await.1);
    }
    // One that changes after the others, and some in between and at the end without a session.
    opened[4] = store.resume(resume(5, 60), 0).await.expect("a session");
    for seed in [1, 6, 7, 8, 20] {
        store.logout(key(seed)).await.expect("a session");
        opened.retain(|opened| opened.profile.binding.peer_key != key(seed));
    }
    for seconds in [5, 50] {
        store.set_interval(Duration::from_secs(seconds)).await.expect("kept");
    }
    let store = engine.open();
    assert_eq!(store.interval().await.expect("readable"), Some(Duration::from_secs(50)));
    assert_eq!(store.hello_secret().await.expect("kept"), secret);
    let expected: Vec<_> = opened
        .iter()
        .map(|o| (o.profile.account, o.profile.epoch, o.salt, o.profile.version))
        .collect();
    for page in [1, 4, 15, 100] {
        let (mut found, mut after) = (Vec::new(), AccountId(0));
        loop {
            let sessions = store.sessions(after, page).await.expect("readable");
            let Some(last) = sessions.last() else { break };
            assert!(sessions.len() <= page as usize);
            after = last.account;
            found.extend(sessions.iter().map(|s| (s.account, s.epoch, s.salt, s.version)));
        }
        assert_eq!(found, expected, "by {page}");
    }
}
