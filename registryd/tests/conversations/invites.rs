//! Registration by invitation: who gets in with which code, and who does not.

use registryd::Registration;
use registryd_proto::{Code, Failure, Reply, Request};
use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{Duration, Instant, interval},
};

use crate::{
    client::{PATIENCE, Peer, Registry, SECRET, password},
    operator::Operator,
};

const HOUR_MS: u64 = 3_600_000;

async fn by_invitation() -> (Registry, Operator) {
    let registry = Registry::start_with(|c| c.registration = Registration::Invite).await;
    let operator = Operator::at(&registry).await;
    (registry, operator)
}

fn create(peer: &Peer, code: Option<&str>) -> Request {
    Request::CreateAccount {
        username: peer.name.clone(),
        password: password(SECRET),
        binding: peer.binding(),
        invite: code.map(str::to_owned),
    }
}

async fn attempt(peer: &Peer, code: Option<&str>) -> Result<Reply, Failure> {
    peer.connect().await.ask(&create(peer, code)).await
}

#[tokio::test]
async fn a_code_makes_as_many_accounts_as_it_has_uses() {
    let (registry, mut operator) = by_invitation().await;
    let (id, code) = operator.invitation(2, HOUR_MS).await;
    assert_eq!(code.len(), 26, "128 bits in base32: {code}");
    let peers = [registry.peer("ann", 1), registry.peer("bob", 2), registry.peer("eve", 3)];
    attempt(&peers[0], Some(&code)).await.expect("the first use");
    // As somebody might have copied it.
    let typed = format!(" {}\n", code.to_uppercase());
    attempt(&peers[1], Some(&typed)).await.expect("the second use");
    let refused = attempt(&peers[2], Some(&code)).await.expect_err("no third");
    assert_eq!(refused.code, Code::Blocked);

    let listed = operator.ask("invites_list", json!({})).await;
    assert_eq!(listed["invites"][0]["used"], 2);
    assert_eq!(listed["invites"][0]["state"], "used_up");
    assert!(!listed.to_string().contains(&code), "told once and never again");
    let ann = operator.ask("users_show", json!({ "username": "ann" })).await;
    assert_eq!(ann["invited_by"], id);
}

#[tokio::test]
async fn why_a_code_does_not_hold_is_not_told() {
    let (registry, mut operator) = by_invitation().await;
    let (_, used) = operator.invitation(1, HOUR_MS).await;
    attempt(&registry.peer("ann", 1), Some(&used)).await.expect("its use");
    let (_, expired) = operator.invitation(1, 1).await;
    let (id, revoked) = operator.invitation(1, HOUR_MS).await;
    operator.ask("invites_revoke", json!({ "id": id })).await;
    until_expired(&mut operator).await;

    let bob = registry.peer("bob", 2);
    let mut answers = Vec::new();
    for code in [used.as_str(), &expired, &revoked, "wrong", "", &"x".repeat(5000)] {
        answers.push(attempt(&bob, Some(code)).await.expect_err("refused"));
    }
    assert_eq!(answers[0].code, Code::Blocked);
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");
    // Not even whether a name is taken.
    let ann = registry.peer("ann", 9);
    assert_eq!(attempt(&ann, Some("wrong")).await.expect_err("refused"), answers[0]);
    assert_eq!(attempt(&bob, None).await.expect_err("refused").code, Code::Blocked);
}

async fn until_expired(operator: &mut Operator) {
    let deadline = Instant::now() + PATIENCE;
    let mut turns = interval(Duration::from_millis(20));
    loop {
        let listed = operator.ask("invites_list", json!({})).await;
        let invites = listed["invites"].as_array().expect("a list");
        if invites.iter().any(|invite| invite["state"] == "expired") {
            return;
        }
        assert!(Instant::now() < deadline, "{listed}");
        turns.tick().await;
    }
}

#[tokio::test]
async fn of_many_who_race_for_three_uses_three_get_in() {
    let (registry, mut operator) = by_invitation().await;
    let (_, code) = operator.invitation(3, HOUR_MS).await;
    let mut races = JoinSet::new();
    for at in 0..20_u8 {
        let peer = registry.peer(&format!("user{at}"), 10 + at);
        let code = code.clone();
        races.spawn(async move { attempt(&peer, Some(&code)).await });
    }
    let ended = races.join_all().await;
    let made = ended.iter().filter(|result| result.is_ok()).count();
    assert_eq!(made, 3, "{ended:?}");
    let refused = |result: &Result<Reply, Failure>| match result {
        Ok(_) => true,
        Err(failure) => failure.code == Code::Blocked,
    };
    assert!(ended.iter().all(refused), "{ended:?}");
    let users = operator.ask("users_list", json!({})).await;
    assert_eq!(users["users"].as_array().map(Vec::len), Some(3), "{users}");
    let listed = operator.ask("invites_list", json!({})).await;
    assert_eq!(listed["invites"][0]["used"], 3, "{listed}");
}

#[tokio::test]
async fn a_request_that_is_repeated_finds_its_account_whatever_became_of_the_code() {
    let (registry, mut operator) = by_invitation().await;
    let (_, code) = operator.invitation(1, HOUR_MS).await;
    let ann = registry.peer("ann", 1);
    attempt(&ann, Some(&code)).await.expect("its use");
    let again = attempt(&ann, Some(&code)).await.expect_err("there is one");
    assert_eq!(again.code, Code::Conflict);
    let (_, other) = operator.invitation(1, HOUR_MS).await;
    assert_eq!(attempt(&ann, Some(&other)).await, Err(again), "the same as with one that holds");
    for stranger in [registry.peer("ann", 2), registry.peer("bob", 1)] {
        let refused = attempt(&stranger, Some(&code)).await.expect_err("another key or name");
        assert_eq!(refused.code, Code::Blocked);
    }
}

#[tokio::test]
async fn an_account_that_is_not_made_takes_no_use() {
    let (registry, mut operator) = by_invitation().await;
    let (_, code) = operator.invitation(2, HOUR_MS).await;
    attempt(&registry.peer("ann", 1), Some(&code)).await.expect("the first use");
    let taken = attempt(&registry.peer("ann", 2), Some(&code)).await.expect_err("taken");
    assert_eq!(taken.code, Code::Conflict);
    attempt(&registry.peer("bob", 3), Some(&code)).await.expect("the second use is there");
}

#[tokio::test]
async fn codes_survive_a_restart_and_open_no_closed_registry() {
    let (registry, mut operator) = by_invitation().await;
    let (_, code) = operator.invitation(1, HOUR_MS).await;
    let closed = registry.restart_with(|c| c.registration = Registration::Closed).await;
    let ann = closed.peer("ann", 1);
    assert_eq!(attempt(&ann, Some(&code)).await.expect_err("closed").code, Code::Blocked);
    let open = closed.restart_with(|c| c.registration = Registration::Open).await;
    attempt(&open.peer("ann", 1), Some(&code)).await.expect("anybody, with a code or without");
    let invite = open.restart_with(|c| c.registration = Registration::Invite).await;
    attempt(&invite.peer("bob", 2), Some(&code)).await.expect("its use was not taken");
}
