//! Accounts, keys and cards.

use registryd_proto::{CARD_LIFETIME_MS, Card};
use tokio::task::JoinSet;

use super::*;

pub(super) async fn a_name_and_a_key_are_taken_once(mut engine: impl Engine) {
    let store = engine.open();
    let ann = create(&store, "ann", 1).await;
    assert_eq!((ann.serial, ann.epoch, ann.version), (1, 0, 1));
    let again = store.create_account(new_account("ann", 2), 0).await;
    assert_eq!(rule(again), Rule::UsernameTaken);
    let again = store.create_account(new_account("bob", 1), 0).await;
    assert_eq!(rule(again), Rule::KeyTaken);
    assert!(find(&store, "bob", 0).await.is_none(), "nothing of it stays");
    assert_ne!(create(&store, "bob", 2).await.account, ann.account);
    assert_eq!(rule(store.profile(AccountId(99)).await), Rule::NoUser);
    assert_eq!(store.profile(ann.account).await.expect("there").username, name("ann"));
}

pub(super) async fn of_many_that_want_one_name_or_key_one_gets_it(mut engine: impl Engine) {
    let store = engine.open();
    let wants = (0..8).map(|n| new_account("ann", 10 + n));
    let wants = wants.chain((0..8).map(|n| new_account(&format!("bob{n}"), 30)));
    let mut tasks = JoinSet::new();
    for new in wants {
        let store = store.clone();
        tasks.spawn(async move { store.create_account(new, 0).await.map(|(p, _)| p) });
    }
    let (mut made, mut refused) = (Vec::new(), Vec::new());
    while let Some(ended) = tasks.join_next().await {
        match ended.expect("no panic") {
            Ok(profile) => made.push(profile),
            other => refused.push(rule(other)),
        }
    }
    assert_eq!(made.len(), 2, "{made:?}");
    assert_eq!(refused.iter().filter(|r| **r == Rule::UsernameTaken).count(), 7);
    assert_eq!(refused.iter().filter(|r| **r == Rule::KeyTaken).count(), 7);
    for profile in made {
        let found = find(&store, profile.username.as_str(), 0).await.expect("committed");
        assert_eq!(found.account, profile.account);
    }
}

pub(super) async fn a_password_is_checked_against_the_newest_hash(mut engine: impl Engine) {
    let store = engine.open();
    let ann = create(&store, "ann", 1).await;
    create(&store, "bob", 2).await;
    let held = store.credentials(&name("ann"), key(1)).await.expect("readable").expect("known");
    assert_eq!((held.account, held.own_key), (ann.account, true));
    assert_eq!(held.password_hash, "hash of ann");
    for foreign in [key(2), key(3)] {
        let held = store.credentials(&name("ann"), foreign).await.expect("readable");
        assert!(!held.expect("known").own_key);
    }
    assert!(store.credentials(&name("cat"), key(1)).await.expect("readable").is_none());
    store.set_password(ann.account, "newer".to_owned()).await.expect("kept");
    let held = store.credentials(&name("ann"), key(1)).await.expect("readable").expect("known");
    assert_eq!(held.password_hash, "newer");
    let other = store.credentials(&name("bob"), key(1)).await.expect("readable").expect("known");
    assert_eq!(other.password_hash, "hash of bob");
}

pub(super) async fn a_deleted_account_keeps_its_name_and_nothing_else(mut engine: impl Engine) {
    let store = engine.open();
    let (ann, _) = member(&store, "ann", 1).await;
    let (bob, _) = member(&store, "bob", 2).await;
    store.delete_account(ann, 0).await.expect("deleted");
    for store in [store, engine.open()] {
        assert_eq!(store.standing(&key(1)).await.expect("readable"), Standing::Unknown);
        assert!(find(&store, "ann", 0).await.is_none());
        assert!(store.credentials(&name("ann"), key(1)).await.expect("readable").is_none());
        assert_eq!(rule(store.profile(ann).await), Rule::NoUser);
        assert_eq!(rule(store.resume(resume(1, 9), 0).await), Rule::NoSession);
        let contacts = store.contacts(vec![bob, ann], 0).await.expect("readable");
        assert_eq!(contacts.iter().map(|c| c.account).collect::<Vec<_>>(), [bob]);
        let sessions = store.sessions(AccountId(0), 100).await.expect("readable");
        assert_eq!(sessions.iter().map(|s| s.account).collect::<Vec<_>>(), [bob]);
        let again = store.create_account(new_account("ann", 3), 0).await;
        assert_eq!(rule(again), Rule::UsernameTaken, "nobody inherits it");
    }
}

pub(super) async fn versions_grow_one_by_one_in_the_order_asked(mut engine: impl Engine) {
    let store = engine.open();
    let (ann, bob) = (create(&store, "ann", 1).await, create(&store, "bob", 2).await);
    let (ann, bob) = (ann.account, bob.account);
    let bumped = store.bump(vec![bob, ann, AccountId(99), bob]).await.expect("kept");
    assert_eq!(bumped, [(bob, 2), (ann, 2), (bob, 3)]);
    assert_eq!(store.profile(bob).await.expect("there").version, 3);
}

pub(super) async fn a_search_answers_each_name_in_its_place(mut engine: impl Engine) {
    let store = engine.open();
    let (ann, _) = member(&store, "ann", 1).await;
    let bob = create(&store, "bob", 2).await;
    let names = ["bob", "nobody", "ann", "bob"].map(name).to_vec();
    let found = store.search(key(1), names, 0).await.expect("readable");
    assert_eq!(found.standing, Standing::Session(ann));
    let ids = found.contacts.iter().map(|c| c.as_ref().map(|c| c.account));
    let expected = [Some(bob.account), None, Some(ann), Some(bob.account)];
    assert_eq!(ids.collect::<Vec<_>>(), expected);
    let told = found.contacts.into_iter().flatten().nth(1).expect("ann");
    assert_eq!((told.username, told.endpoints), (name("ann"), endpoints(1)));
    let logged_out = store.search(key(2), Vec::new(), 0).await.expect("readable");
    assert_eq!(logged_out.standing, Standing::LoggedOut);
}

fn open(contact: &Contact) -> Card {
    let signed = contact.signed_card().expect("a card");
    Card::open(&signed, &registry().public()).expect("signed by the registry")
}

async fn card_at(store: &Store, username: &str, now_ms: u64) -> Card {
    let contact = find(store, username, now_ms).await.expect("there");
    let card = open(&contact);
    let left_ms = card.expires_ms - now_ms;
    assert!((CARD_LIFETIME_MS / 2..=CARD_LIFETIME_MS).contains(&left_ms), "{left_ms}");
    card
}

pub(super) async fn a_card_is_kept_for_half_of_its_life(mut engine: impl Engine) {
    let store = engine.open();
    let profile = create(&store, "ann", 1).await;
    let first = card_at(&store, "ann", 0).await;
    assert_eq!((first.username.clone(), first.serial, first.issued_ms), (name("ann"), 1, 0));
    assert_eq!(first.binding, profile.binding);
    assert_eq!(card_at(&store, "ann", 12 * HOUR_MS).await, first, "no signature until then");
    let second = card_at(&store, "ann", 13 * HOUR_MS).await;
    assert_eq!(second.issued_ms, 13 * HOUR_MS);
    // What is kept on the way is written before anything that is asked for later.
    store.bump(Vec::new()).await.expect("done");
    for store in [store, engine.open()] {
        assert_eq!(card_at(&store, "ann", 20 * HOUR_MS).await, second);
        let by_id = store.contacts(vec![profile.account], 20 * HOUR_MS).await.expect("readable");
        assert!(by_id.iter().map(open).eq([second.clone()]));
        // A clock that was set back: a card from the future would live too long.
        assert_eq!(card_at(&store, "ann", 0).await.issued_ms, 0);
        store.bump(Vec::new()).await.expect("done");
        assert_eq!(card_at(&store, "ann", 13 * HOUR_MS).await.issued_ms, 13 * HOUR_MS);
        store.bump(Vec::new()).await.expect("done");
    }
}

pub(super) async fn a_card_follows_the_keys(mut engine: impl Engine) {
    let store = engine.open();
    let (profile, first) = store.create_account(new_account("ann", 1), 0).await.expect("free");
    let first = Card::open(&first, &registry().public()).expect("signed");
    assert_eq!(card_at(&store, "ann", 1).await, first);
    let same = store.login(login(&profile, 1, 1, Entry::Free), 1).await.expect("opened");
    assert_eq!(Card::open(&same.card, &registry().public()).expect("signed"), first);
    let other = store.login(login(&profile, 2, 2, Entry::Free), 2).await.expect("opened");
    let second = Card::open(&other.card, &registry().public()).expect("signed");
    assert_eq!((second.serial, second.issued_ms), (2, 2));
    assert_eq!(second.binding, binding("ann", 2));
    assert_eq!(card_at(&store, "ann", 3).await, second);
    let ahead = ResumeRequest { serial: 7, ..resume(2, 3) };
    let ahead = store.resume(ahead, 4).await.expect("opened");
    let third = Card::open(&ahead.card, &registry().public()).expect("signed");
    assert_eq!((third.serial, third.issued_ms), (7, 4));
    assert_eq!(card_at(&store, "ann", 5).await, third);
}
