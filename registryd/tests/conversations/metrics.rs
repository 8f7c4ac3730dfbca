//! Metrics and health over HTTP: what is counted, in the format that it says it has, and what is refused.

use std::{collections::BTreeMap, os::unix::fs::PermissionsExt as _, path::Path};

use registryd::{MetricsAddress, MetricsConfig};
use registryd_proto::{Code, Request};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket, UnixStream},
    time::{Instant, timeout},
};

use crate::client::{Hello, PATIENCE, Registry, endpoints};

/// One sample: name and labels as written, and its value.
type Samples = BTreeMap<String, f64>;

async fn start(listen: &str) -> Registry {
    let listen = Some(listen.parse().expect("an address of this machine"));
    Registry::start_with(|config| config.metrics = MetricsConfig { listen }).await
}

/// Status, head and body of what is answered to these bytes.
async fn talk(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    bytes: &[u8],
) -> (u16, String, String) {
    stream.write_all(bytes).await.expect("written");
    let mut answer = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    read.expect("an end in time").expect("read");
    let answer = String::from_utf8(answer).expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
    (status, head.to_lowercase(), body.to_owned())
}

async fn ask(registry: &Registry, method: &str, path: &str) -> (u16, String, String) {
    let request = format!("{method} {path} HTTP/1.1\r\nHost: registry\r\n\r\n");
    match registry.server.metrics_address().expect("it was configured") {
        MetricsAddress::Loopback(address) => {
            let stream = TcpStream::connect(address).await.expect("connected");
            talk(stream, request.as_bytes()).await
        }
        MetricsAddress::Unix(path) => {
            let stream = UnixStream::connect(path).await.expect("connected");
            talk(stream, request.as_bytes()).await
        }
    }
}

async fn scrape(registry: &Registry) -> Samples {
    let (status, head, body) = ask(registry, "GET", "/metrics").await;
    assert_eq!(status, 200, "{body}");
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{head}");
    parse(&body)
}

/// Reads what follows the rules of the format: each family has help and a type before its samples, a counter
/// ends in `_total`, no sample comes twice, and the end is marked.
fn parse(text: &str) -> Samples {
    let mut samples = Samples::new();
    let (mut family, mut kind) = (String::new(), String::new());
    let mut lines = text.lines();
    for line in lines.by_ref() {
        if line == "# EOF" {
            break;
        } else if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a name and a help");
            assert!(name.starts_with("p2pchat_registry_") && help.len() > 5, "{line}");
            family = name.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, told) = rest.split_once(' ').expect("a name and a type");
            assert_eq!(name, family, "help and type belong together");
            kind = told.to_owned();
        } else {
            let (name, value) = line.rsplit_once(' ').expect("a sample");
            let bare = name.split('{').next().expect("a name");
            let ending = bare.strip_prefix(family.as_str()).expect("a sample of its family");
            let endings: &[&str] = match kind.as_str() {
                "gauge" => &[""],
                "counter" => &["_total"],
                "histogram" => &["_bucket", "_sum", "_count"],
                other => panic!("type {other}"),
            };
            assert!(endings.contains(&ending), "{line} in a {kind}");
            let value = value.parse().expect("a number");
            assert!(samples.insert(name.to_owned(), value).is_none(), "{name} comes twice");
        }
    }
    assert_eq!(lines.next(), None, "nothing behind the end");
    samples
}

fn of(samples: &Samples, name: &str) -> f64 {
    *samples.get(&format!("p2pchat_registry_{name}")).unwrap_or_else(|| panic!("no {name}"))
}

#[tokio::test]
async fn what_happened_is_counted_and_nobody_is_named() {
    let registry = start("127.0.0.1:0").await;
    let mut ann = registry.member("annabel", 1).await;
    let bob = registry.member("bobadil", 2).await;
    let mut hello = Hello::new(&bob.grant).await;
    let recorded = hello.seal();
    hello.socket.send(&recorded).await.expect("sent");
    hello.hear().await;
    for _ in 0..3 {
        ann.link.user("bobadil").await;
    }
    let nobody = Request::Search { username: "nobody".parse().expect("name") };
    assert_eq!(ann.link.code(&nobody).await, Code::NotFound);
    assert_eq!(ann.link.code(&bob.peer.create()).await, Code::Usage, "not the key of bob");
    ann.link.raw(b"{\"request\":\"dance\"}").await;

    // A replay, a session that is none, a forgery, and no HELLO at all; the last one is answered.
    let stray = UdpSocket::bind("127.0.0.1:0").await.expect("bound");
    stray.connect(registry.server.local_address()).await.expect("connected");
    let (mut foreign, mut forged) = (recorded, hello.seal());
    foreign[1..9].fill(0x77);
    forged[70] ^= 1;
    for datagram in [&recorded[..], &foreign, &forged, b"hello"] {
        stray.send(datagram).await.expect("sent");
    }
    let deadline = Instant::now() + PATIENCE;
    while of(&scrape(&registry).await, "hello_received_total") < 5.0 {
        assert!(Instant::now() < deadline, "the datagrams arrive");
    }
    let samples = scrape(&registry).await;
    for (name, expected) in [
        ("hello_answered_total", 1.0),
        ("hello_dropped_total{reason=\"replayed\"}", 1.0),
        ("hello_dropped_total{reason=\"unknown_session\"}", 1.0),
        ("hello_dropped_total{reason=\"unsealed\"}", 1.0),
        ("hello_dropped_total{reason=\"malformed\"}", 1.0),
        ("requests_total{verb=\"create_account\",code=\"ok\"}", 2.0),
        ("requests_total{verb=\"create_account\",code=\"usage\"}", 1.0),
        ("requests_total{verb=\"search\",code=\"ok\"}", 3.0),
        ("requests_total{verb=\"search\",code=\"not_found\"}", 1.0),
        ("requests_total{verb=\"unreadable\",code=\"usage\"}", 1.0),
        ("request_duration_seconds_count{verb=\"search\"}", 4.0),
        ("request_duration_seconds_bucket{le=\"+Inf\",verb=\"search\"}", 4.0),
        ("connections", 2.0),
        ("connections_accepted_total", 2.0),
        ("sessions", 2.0),
        ("hello_interval_seconds", 1.0),
        ("healthy{check=\"store\"}", 1.0),
        ("store_disk_full", 0.0),
        ("passwords_waiting", 0.0),
    ] {
        assert_eq!(of(&samples, name), expected, "{name}");
    }
    assert!(of(&samples, "resident_memory_bytes") > 1e6);
    assert!(of(&samples, "store_jobs_total{thread=\"writer\"}") >= 4.0);
    assert!(of(&samples, "uptime_seconds") > 0.0);
    let (_, _, text) = ask(&registry, "GET", "/metrics").await;
    for secret in ["annabel", "bobadil", "nobody", "127.0.0.1"] {
        assert!(!text.contains(secret), "{secret} in the metrics");
    }
}

#[tokio::test]
async fn accounts_rooms_and_who_is_online_are_counted() {
    let registry = start("[::1]:0").await;
    let mut ann = registry.member("ann", 1).await;
    ann.link.open_room("ops").await;
    let samples = scrape(&registry).await;
    assert_eq!((of(&samples, "accounts"), of(&samples, "rooms")), (1.0, 1.0));
    assert_eq!(of(&samples, "online"), 0.0);
    Hello::new(&ann.grant).await.say().await;
    assert_eq!(of(&scrape(&registry).await, "online"), 1.0);
    let resumed = Request::Resume {
        attempt: registryd_proto::Digest([9; 32]),
        endpoints: endpoints(),
        serial: 0,
        epoch: 0,
    };
    ann.link.session(&resumed).await;
    assert_eq!(of(&scrape(&registry).await, "sessions"), 1.0, "one for each account");
}

#[tokio::test]
async fn health_says_what_it_looked_at_and_only_reading_is_answered() {
    let registry = start("127.0.0.1:0").await;
    let (status, head, body) = ask(&registry, "GET", "/health").await;
    let health: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((status, &health["schema"]), (200, &Value::from("registryd.health/1")));
    assert_eq!(health["healthy"], true);
    for check in ["store", "disk", "hello", "load"] {
        assert_eq!(health[check], "ok", "{check}");
    }
    assert!(head.contains("application/json"), "{head}");
    assert_eq!(ask(&registry, "GET", "/").await.0, 404);
    let (status, head, _) = ask(&registry, "POST", "/metrics").await;
    assert_eq!(status, 405);
    assert!(head.contains("allow: get"), "{head}");
}

#[tokio::test]
async fn places_that_are_all_taken_are_no_harm_while_newcomers_get_one() {
    let listen = Some("127.0.0.1:0".parse().expect("an address of this machine"));
    let registry = Registry::start_with(|config| {
        config.metrics = MetricsConfig { listen };
        config.connections.max = 1;
    })
    .await;
    for seed in 1..=2 {
        // Once one is answered its place is taken; the next one takes it over.
        let mut silent = registry.peer("ann", seed).connect().await;
        assert_eq!(silent.code(&Request::ListRooms).await, Code::NotLoggedIn);
        assert_eq!(ask(&registry, "GET", "/health").await.0, 200);
    }
}

fn path_of(registry: &Registry) -> &Path {
    match registry.server.metrics_address() {
        Some(MetricsAddress::Unix(path)) => path,
        other => panic!("a local socket, not {other:?}"),
    }
}

#[tokio::test]
async fn a_local_socket_is_private_replaces_a_stale_one_and_is_gone_at_the_end() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("metrics.sock");
    drop(
        std::os::unix::net::UnixListener::bind(&path).expect("one that ended without cleaning up"),
    );
    let registry = start(&format!("unix:{}", path.display())).await;
    assert_eq!(ask(&registry, "GET", "/health").await.0, 200);
    let mode = std::fs::metadata(path_of(&registry)).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o660);

    // Neither one that is in use nor any other file is taken away.
    let second = |listen: String| async move {
        let folder = tempfile::tempdir().expect("temporary folder");
        let config = registryd::Config {
            data_dir: folder.path().to_owned(),
            listen: "127.0.0.1:0".to_owned(),
            metrics: MetricsConfig { listen: Some(listen.parse().expect("an address")) },
            ..Default::default()
        };
        registryd::Server::start(config).await.expect_err("the place is taken").to_string()
    };
    let taken = second(format!("unix:{}", path.display())).await;
    assert!(taken.contains("for metrics") && taken.contains("metrics.sock"), "{taken}");
    let file = folder.path().join("file");
    std::fs::write(&file, "somebody's").expect("written");
    second(format!("unix:{}", file.display())).await;
    assert_eq!(std::fs::read(&file).expect("kept"), b"somebody's");
    assert_eq!(ask(&registry, "GET", "/health").await.0, 200, "the first goes on");

    registry.server.stop().await;
    assert!(!path.exists(), "removed");
}

#[tokio::test]
async fn who_sends_too_much_or_nothing_is_cut_and_others_are_served() {
    let registry = start("127.0.0.1:0").await;
    let Some(MetricsAddress::Loopback(address)) = registry.server.metrics_address() else {
        panic!("TCP was configured");
    };
    // More than there are places for: they say nothing, and hold them until their time is over.
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(address).await.expect("connected"));
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut stream = TcpStream::connect(address).await.expect("connected");
        let request = b"GET /health HTTP/1.1\r\nHost: registry\r\n\r\n";
        let mut answer = Vec::new();
        // One that is cut at once may be cut before or after it was written to.
        if stream.write_all(request).await.is_ok()
            && stream.read_to_end(&mut answer).await.is_ok()
            && answer.starts_with(b"HTTP/1.1 200")
        {
            break;
        }
        assert!(Instant::now() < deadline, "the silent are cut in time");
    }
    for mut stream in silent {
        let mut rest = Vec::new();
        let end = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("cut in time");
        assert!(end.is_err() || !rest.starts_with(b"HTTP/1.1 200"), "nothing was asked");
    }
    let long = format!("GET /health HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(64 * 1024));
    let mut stream = TcpStream::connect(address).await.expect("connected");
    let _ = stream.write_all(long.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("cut in time");
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn by_default_nothing_listens() {
    let registry = Registry::start().await;
    assert_eq!(registry.server.metrics_address(), None);
}
