//! Many requests at once on one connection, and many connections at once.

use registryd_proto::{
    Answer, Code, Failure, Reply, Request,
    frame::{self, Kind},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use crate::client::{Link, PATIENCE, Registry};

fn search(name: &str) -> Request {
    Request::Search { username: name.parse().expect("name") }
}

/// Writes all requests, then reads as many answers.
async fn ask_all(link: &mut Link, requests: &[Request]) -> Vec<Result<Reply, Failure>> {
    let mut wire = Vec::new();
    for request in requests {
        let json = frame::encode(Kind::Request, request).expect("small");
        wire.extend(u32::try_from(json.len()).expect("small").to_be_bytes());
        wire.extend_from_slice(&json);
    }
    link.stream.write_all(&wire).await.expect("written");
    link.stream.flush().await.expect("written");
    let mut answers = Vec::new();
    for _ in requests {
        let json = timeout(PATIENCE, link.reply()).await.expect("an answer in time");
        answers.push(match frame::decode(&json).expect("an answer") {
            Answer::Ok(reply) => Ok(reply),
            Answer::Error(failure) => Err(failure),
        });
    }
    answers
}

fn told(answer: &Result<Reply, Failure>) -> Result<&str, Code> {
    match answer {
        Ok(Reply::User(user)) => Ok(user.username.as_str()),
        Ok(Reply::Done) => Ok("done"),
        Ok(other) => panic!("not asked for: {other:?}"),
        Err(failure) => Err(failure.code),
    }
}

#[tokio::test]
async fn requests_that_arrive_together_are_answered_in_their_order() {
    let registry = Registry::start().await;
    let mut ann = registry.member("ann", 1).await;
    registry.member("bob", 2).await;
    // More than one look-up takes, and more than one read.
    let names = ["ann", "bob", "cat"];
    let requests: Vec<_> = (0..200).map(|n| search(names[n % 3])).collect();
    let answers = ask_all(&mut ann.link, &requests).await;
    for (n, answer) in answers.iter().enumerate() {
        let expected = if n % 3 == 2 { Err(Code::NotFound) } else { Ok(names[n % 3]) };
        assert_eq!(told(answer), expected, "{n}");
    }
}

#[tokio::test]
async fn a_logout_holds_for_the_very_next_request() {
    let registry = Registry::start().await;
    let mut ann = registry.member("ann", 1).await;
    let requests = [search("ann"), search("cat"), Request::Logout, search("ann"), search("ann")];
    let answers = ask_all(&mut ann.link, &requests).await;
    let out = Err(Code::NotLoggedIn);
    let told: Vec<_> = answers.iter().map(told).collect();
    assert_eq!(told, [Ok("ann"), Err(Code::NotFound), Ok("done"), out, out]);
}

#[tokio::test]
async fn a_takeover_holds_on_connections_that_are_open() {
    let registry = Registry::start().await;
    let mut ann = registry.member("ann", 1).await;
    assert_eq!(ann.link.user("ann").await.username.as_str(), "ann");
    let other = registry.peer("ann", 9);
    other.connect().await.session(&other.login_by(crate::client::SECRET, 9, true)).await;
    assert_eq!(ann.link.code(&search("ann")).await, Code::Superseded);
}

#[tokio::test]
async fn searches_over_the_limit_are_refused_each_in_its_place() {
    let registry =
        Registry::start_with(|c| c.limits.searches.burst = 5.try_into().expect("some")).await;
    let mut ann = registry.member("ann", 1).await;
    let answers = ask_all(&mut ann.link, &vec![search("ann"); 60]).await;
    let refused: Vec<_> = answers.iter().filter_map(|a| a.as_ref().err()).collect();
    assert!((40..=55).contains(&refused.len()), "{}", refused.len());
    assert!(answers[..5].iter().all(Result::is_ok), "the first ones are let through");
    for failure in refused {
        assert_eq!(failure.code, Code::RateLimited);
        assert!(failure.retry_after_ms.is_some());
    }
}

#[tokio::test]
async fn a_newcomer_takes_the_place_of_a_silent_connection_and_a_reply_is_never_cut() {
    let registry = Registry::start_with(|c| c.connections.per_source_max = 2).await;
    let mut ann = registry.member("ann", 1).await;
    let mut silent = registry.peer("bob", 2).connect().await;
    assert_eq!(silent.code(&Request::ListRooms).await, Code::NotLoggedIn);
    assert_eq!(ann.link.user("ann").await.username.as_str(), "ann");
    // Ann spoke last, so it is the other one that goes.
    let mut newcomer = registry.peer("cat", 3).connect().await;
    assert_eq!(newcomer.code(&Request::ListRooms).await, Code::NotLoggedIn);
    let end = timeout(PATIENCE, silent.stream.read_u8()).await.expect("closed in time");
    assert!(end.is_err(), "nothing was left to say");
    assert_eq!(ann.link.user("ann").await.username.as_str(), "ann");
}

#[tokio::test]
async fn who_finds_no_place_is_told_when_to_come_back() {
    let registry = Registry::start_with(|c| c.connections.per_source_max = 1).await;
    let ann = registry.peer("ann", 1);
    let mut busy = ann.connect().await;
    let json = frame::encode(Kind::Request, &ann.login(1)).expect("small");
    let length = u32::try_from(json.len()).expect("small").to_be_bytes();
    let logins = [&length, &json[..]].concat().repeat(15);
    busy.stream.write_all(&logins).await.expect("written");
    busy.stream.flush().await.expect("written");
    timeout(PATIENCE, busy.reply()).await.expect("the first answer in time");
    let mut late = registry.peer("bob", 2).connect().await;
    let failure = late.ask(&Request::ListRooms).await.expect_err("no place");
    assert_eq!(failure.code, Code::RateLimited);
    let wait_ms = failure.retry_after_ms.expect("it says when");
    assert!((1_000..=2_000).contains(&wait_ms), "{wait_ms}");
    for _ in 1..15 {
        timeout(PATIENCE, busy.reply()).await.expect("every answer in time");
    }
}
