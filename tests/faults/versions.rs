//! Programs of different versions together: it works, or it says which does not fit.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixListener,
    path::Path,
    thread,
};

use harness::{Ctl, CtlOutput, DEADLINE, Impostor, Peer, Registry, RegistryClient, bare, binaries};
use peerd_proto::wire::{Frame, Goodbye, PROTOCOL_VERSION};
use registryd_proto::{Code, Keypair};
use serde_json::{Value, json};

use crate::people::online;

/// Row 22: a newer p2pctl says more than peerd knows.
#[test]
fn an_old_peerd_answers_a_newer_client_as_far_as_it_knows() {
    let (_registry, [bob]) = online(["bob"]);
    let mut rpc = bob.rpc();
    let mut ask = |line: Value| {
        rpc.write(format!("{line}\n").as_bytes()).expect("peerd reads");
        rpc.read().expect("peerd answers")
    };
    let more = json!({"jsonrpc": "2.0", "id": 1, "method": "status", "trace": "x",
        "params": {"of_tomorrow": {"deep": [1]}}});
    assert_eq!(ask(more)["result"]["session"], "online", "what it does not know it leaves out");
    let verb = json!({"jsonrpc": "2.0", "id": 2, "method": "teleport", "params": {}});
    assert_eq!(ask(verb)["error"]["code"], -32601);
    let envelope = json!({"jsonrpc": "3.0", "id": 3, "method": "status", "params": {}});
    assert_eq!(ask(envelope)["error"]["code"], -32600);
    let after = json!({"jsonrpc": "2.0", "id": 4, "method": "version"});
    assert!(ask(after)["result"]["api"].is_u64(), "the connection still serves");
}

/// One that answers each request with the same line, under its id.
fn other_peerd(home: &Path, answer: Value) -> impl Fn(&[&str]) -> CtlOutput {
    let path = home.join("p.sock");
    let listener = UnixListener::bind(&path).expect("a free path");
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut writer = stream.try_clone().expect("a descriptor is free");
            let mut line = String::new();
            // Whoever does not ask gets nothing.
            if BufReader::new(stream).read_line(&mut line).is_ok_and(|count| count > 0) {
                let request: Value = serde_json::from_str(&line).expect("p2pctl writes JSON");
                let mut answer = answer.clone();
                answer["id"] = request["id"].clone();
                let _ = writer.write_all(format!("{answer}\n").as_bytes());
            }
        }
    });
    let home = home.to_owned();
    move |args| {
        let command = bare(&binaries().p2pctl, &home);
        let socket = path.to_str().expect("UTF-8");
        Ctl::of(command).args(&["--json", "--socket", socket]).args(args).run()
    }
}

/// Row 22: a newer peerd says more than p2pctl knows; an older one lacks a verb; another one speaks another API.
#[test]
fn p2pctl_works_with_another_peerd_or_says_that_it_does_not_fit() {
    let home = || tempfile::tempdir().expect("a temporary folder");
    let folder = home();
    let newer = json!({"jsonrpc": "2.0", "result": {"requests": [], "of_tomorrow": 1}});
    let answer = other_peerd(folder.path(), newer)(&["requests"]).ok();
    assert_eq!(answer["requests"], json!([]));

    let folder = home();
    let error = json!({"code": -32601, "message": "no method requests",
        "data": {"code": "usage", "retryable": false}});
    let lacks = json!({"jsonrpc": "2.0", "error": error});
    let error = other_peerd(folder.path(), lacks)(&["requests"]).failed(Code::VersionMismatch);
    assert!(error["hint"].as_str().is_some_and(|h| h.contains("restart peerd")), "{error}");

    let folder = home();
    let error =
        json!({"code": -32000, "message": "x", "data": {"code": "new_word", "retryable": false}});
    let word = json!({"jsonrpc": "2.0", "error": error});
    other_peerd(folder.path(), word)(&["requests"]).failed(Code::VersionMismatch);

    let folder = home();
    let api = json!({"jsonrpc": "2.0", "result": {"peerd": "9.0.0", "api": 99}});
    other_peerd(folder.path(), api)(&["version"]).failed(Code::VersionMismatch);

    let folder = home();
    let shape = json!({"jsonrpc": "2.0", "result": {"inquiries": 7}});
    other_peerd(folder.path(), shape)(&["requests"]).failed(Code::VersionMismatch);
}

/// Row 22: between peers and at the registry: another protocol is refused, and those who fit do not notice.
#[test]
fn links_and_requests_of_another_version_are_refused_and_harm_nobody() {
    let registry = Registry::start();
    let bob = Peer::online("bob", &registry);
    let mut mallory = Impostor::registered("mallory", &registry);
    let (_, key, at) = mallory.look_up("bob");
    assert!(mallory.dial_as(b"p2pchat/peer/2", &key, at).is_none(), "another protocol by name");
    let mut link = mallory.dial(&key, at);
    let Frame::Hello(mut hello) = mallory.own_hello() else { panic!("it begins with a hello") };
    hello.version = PROTOCOL_VERSION + 1;
    link.send(&Frame::Hello(hello));
    let mut frames = std::iter::from_fn(|| link.receive(DEADLINE));
    let told = frames.any(|frame| matches!(frame, Frame::Goodbye(Goodbye::Version)));
    assert!(told || link.is_closed_within(DEADLINE), "it is told, or closed");

    let keys = Keypair::generate().expect("the system has randomness");
    let mut client = RegistryClient::connect(registry.socket_address(), registry.key(), &keys);
    client.write_frame(br#"{"request":"teleport","to":"bob"}"#).expect("the handshake works");
    let answer: Value =
        serde_json::from_slice(&client.read_frame().expect("an answer")).expect("JSON");
    assert!(answer.to_string().contains("usage"), "{answer}");
    bob.ctl(&["search", "mallory"]).ok();
}
