//! Clients that break the rules: half frames, giant frames, garbage, floods.

use std::{num::NonZeroU32, time::Duration};

use registryd::Rate;
use registryd_proto::{Answer, Code, Request, frame, tls};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::client::{Member, PATIENCE, Registry};

/// Reads to the end of the stream, whichever way it ends.
async fn closed(stream: &mut (impl tokio::io::AsyncRead + Unpin)) {
    let mut rest = Vec::new();
    // A reset is as good an end as a clean one.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("closed in time");
}

#[tokio::test]
async fn what_is_no_request_is_answered_and_the_connection_goes_on() {
    let registry = Registry::start().await;
    let mut bob = registry.member("bob", 2).await;
    let deep = "[".repeat(10_000);
    let cases = [
        "",
        "{}",
        "null",
        "\u{0}\u{1}",
        r#"{"request":"no_such"}"#,
        r#"{"request":"search","username":"Bob"}"#,
        r#"{"request":"search","username":"'; drop table account; --"}"#,
        r#"{"request":"search"}"#,
        r#"{"request":"change_password","old":"short","new":"x"}"#,
        deep.as_str(),
    ];
    for case in cases {
        let answer = bob.link.raw(case.as_bytes()).await;
        let Answer::Error(failure) = frame::decode(&answer).expect("an answer") else {
            panic!("{case:.60} was taken");
        };
        assert_eq!(failure.code, Code::Usage, "{case:.60}");
        assert!(!failure.message.contains("drop"), "nothing is echoed");
    }
    bob.link.ask(&Request::ListRooms).await.expect("still served");
}

#[tokio::test]
async fn a_flood_of_what_is_no_request_is_cut() {
    let few = Rate {
        burst: NonZeroU32::new(20).expect("not 0"),
        every_ms: NonZeroU32::new(60_000).expect("not 0"),
    };
    let registry = Registry::start_with(|c| c.limits.strangers = few).await;
    let mut eve = registry.peer("eve", 3).connect().await;
    for _ in 0..20 {
        let answer = eve.raw(b"{}").await;
        assert!(String::from_utf8_lossy(&answer).contains("usage"));
    }
    assert!(String::from_utf8_lossy(&eve.raw(b"{}").await).contains("rate_limited"));
    closed(&mut eve.stream).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_makes_place_for_a_newcomer() {
    let many = Rate {
        burst: NonZeroU32::new(1_000_000).expect("not 0"),
        every_ms: NonZeroU32::new(1).expect("not 0"),
    };
    let registry = Registry::start_with(|c| {
        (c.limits.searches, c.limits.requests) = (many, many);
        c.connections.per_source_max = 1;
    })
    .await;
    let Member { peer: bob, link, .. } = registry.member("bob", 2).await;
    drop(link);
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("small");
    let stream = socket.connect(bob.address).await.expect("connected");
    let config = tls::client_config(&bob.keys, Some(bob.registry)).expect("config");
    let connector = TlsConnector::from(config);
    let mut stream = connector.connect(tls::server_name(), stream).await.expect("handshake");
    let search = Request::Search { username: "bob".parse().expect("a name") };
    let json = frame::encode(frame::Kind::Request, &search).expect("small");
    let one = [&u32::try_from(json.len()).expect("small").to_be_bytes()[..], &json].concat();
    // As many as it takes: then it reads no more, for nobody reads its answers.
    let all = one.repeat(1000);
    while timeout(Duration::from_secs(1), stream.write_all(&all)).await.is_ok() {}
    registry.peer("bob", 2).connect().await.ask(&Request::ListRooms).await.expect("there is place");
    closed(&mut stream).await;
}

#[tokio::test]
async fn a_silent_client_does_not_delay_a_stop() {
    let registry = Registry::start().await;
    let mut silent = TcpStream::connect(registry.server.local_address()).await.expect("connected");
    // Accepted in order: once this one is served, the silent one has its task.
    registry.peer("bob", 2).connect().await;
    let begin = tokio::time::Instant::now();
    registry.server.stop().await;
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    closed(&mut silent).await;
}

#[tokio::test]
async fn a_giant_frame_is_refused_by_its_length() {
    let registry = Registry::start().await;
    let mut bob = registry.member("bob", 2).await;
    bob.link.stream.write_all(&u32::MAX.to_be_bytes()).await.expect("written");
    bob.link.stream.flush().await.expect("written");
    let answer = timeout(PATIENCE, bob.link.reply()).await.expect("an answer in time");
    assert!(String::from_utf8_lossy(&answer).contains("too large"));
    closed(&mut bob.link.stream).await;
}

#[tokio::test]
async fn half_a_frame_and_half_a_handshake_are_cut() {
    let registry = Registry::start().await;
    let mut bob = registry.member("bob", 2).await;
    bob.link.stream.write_all(&[0, 0, 1, 0, b'{']).await.expect("written");
    bob.link.stream.flush().await.expect("written");
    let mut silent = TcpStream::connect(registry.server.local_address()).await.expect("connected");
    let mut garbage = TcpStream::connect(registry.server.local_address()).await.expect("connected");
    garbage.write_all(b"GET / HTTP/1.0\r\n\r\n").await.expect("written");
    tokio::join!(closed(&mut bob.link.stream), closed(&mut silent), closed(&mut garbage));
}

#[tokio::test]
async fn another_version_does_not_get_in() {
    let registry = Registry::start().await;
    let bob = registry.peer("bob", 2);
    let config = tls::client_config(&bob.keys, None).expect("config");
    for alpn in [vec![], vec![b"p2pchat/registry/0".to_vec()]] {
        let mut config = (*config).clone();
        config.alpn_protocols = alpn;
        let stream = TcpStream::connect(bob.address).await.expect("connected");
        let connector = TlsConnector::from(std::sync::Arc::new(config));
        match connector.connect(tls::server_name(), stream).await {
            Ok(mut stream) => closed(&mut stream).await,
            Err(error) => assert!(tls::version_mismatch(&error), "{error}"),
        }
    }
}

#[tokio::test]
async fn a_flood_of_logins_leaves_other_requests_fast() {
    let registry = Registry::start().await;
    let mut ann = registry.member("ann", 1).await;
    let mut flood = tokio::task::JoinSet::new();
    for seed in 0..150_u8 {
        let eve = registry.peer(&format!("eve{seed}"), 50_u8.wrapping_add(seed));
        flood.spawn(async move {
            let mut link = eve.connect().await;
            link.code(&eve.login(1)).await
        });
    }
    let begin = tokio::time::Instant::now();
    for _ in 0..20 {
        ann.link.ask(&Request::ListRooms).await.expect("served");
    }
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    while let Some(code) = flood.join_next().await {
        let code = code.expect("no panic");
        assert!(matches!(code, Code::BadCredentials | Code::RateLimited), "{code}");
    }
}
