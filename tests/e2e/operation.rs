//! The registry as its operator keeps it: backed up while it serves, restored elsewhere, watched.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use harness::{DEADLINE, Peer, Registry, eventually, http_get};
use registryd_proto::Code;

use crate::{bodies, friends};

#[test]
fn a_registry_restored_on_a_new_disk_is_the_same_to_its_users() {
    let (mut registry, [alice, bob]) = friends(["alice", "bob"]);
    alice.ctl(&["send", "bob", "before"]).ok();
    let place = tempfile::tempdir().expect("a temporary folder");
    let file = place.path().join("registry.backup");
    let file = file.to_str().expect("a plain path");

    // While two chat and accounts are made.
    let enough = AtomicBool::new(false);
    let carol = Peer::start("carol");
    thread::scope(|scope| {
        let chat = scope.spawn(|| {
            let mut sent = 0;
            while !enough.load(Ordering::Relaxed) {
                alice.ctl(&["send", "bob", &format!("under way {sent}")]).ok();
                sent += 1;
            }
            sent
        });
        carol.create_account(&registry.address()).ok();
        let told = registry.tool(&["backup", file]).run().ok();
        assert_eq!(told["accounts"], 3, "carol was made before: {told}");
        enough.store(true, Ordering::Relaxed);
        let sent = chat.join().expect("nobody was disturbed");
        assert_eq!(bob.history(&["alice"]).len(), 1 + sent);
    });
    let late = Peer::online("late", &registry);
    assert_eq!(registry.tool(&["check", "--full", file]).run().ok()["sound"], true);

    // The disk is lost, and everything with it.
    registry.kill();
    fs::remove_dir_all(registry.data()).expect("our own folder");
    let told = registry.tool(&["restore", file]).run().ok();
    assert_eq!(
        (&told["key"], &told["kept"]),
        (&registry.key().to_string().into(), &serde_json::Value::Null)
    );
    registry.restart();

    for (peer, other) in [(&alice, "bob"), (&bob, "alice")] {
        peer.wait_online();
        eventually("they find each other", DEADLINE, || peer.presence_of(other) == "online");
    }
    alice.ctl(&["send", "bob", "after"]).ok();
    assert_eq!(bodies(&bob.history(&["alice"])).last(), Some(&"after"));
    for (peer, last) in [(&alice, "delivered"), (&bob, "message")] {
        let events = peer.listen(&["--after", "0"]);
        events.wait_for_type(last);
        let told = events.events();
        assert!(!told.iter().any(|e| e["type"] == "key_changed"), "pins hold: {told:?}");
    }
    carol.login(&[]).ok();
    carol.ctl(&["search", "bob"]).ok();
    // Who came after the backup is not known any more, is told so, and can come again.
    alice.ctl(&["search", "late"]).failed(Code::NotFound);
    eventually("late's session ends", 4 * DEADLINE, || late.status()["session"] == "logged_out");
    late.create_account(&registry.address()).ok();
    assert_eq!(registry.tool(&["check", "--full"]).run().ok()["sound"], true);
}

#[test]
fn metrics_show_who_is_online_and_name_nobody() {
    let place = tempfile::tempdir().expect("a temporary folder");
    let (file, socket) = (place.path().join("registryd.toml"), place.path().join("metrics"));
    fs::write(&file, format!("[metrics]\nlisten = \"unix:{}\"\n", socket.display()))
        .expect("written");
    let registry = Registry::start_with(&["--config", file.to_str().expect("plain")], "info");
    let peers = ["alice", "bobadil"].map(|name| Peer::online(name, &registry));
    peers[0].ctl(&["search", "bobadil"]).ok();
    let metric = |name: &str| {
        let (status, text) = http_get(&socket, "/metrics");
        assert_eq!(status, 200, "{text}");
        assert!(!text.contains("bobadil") && text.ends_with("# EOF\n"), "{text}");
        let line =
            text.lines().find_map(|l| l.strip_prefix("p2pchat_registry_")?.strip_prefix(name));
        line.and_then(|value| value.trim().parse::<f64>().ok()).unwrap_or(-1.0)
    };
    eventually("two are online", DEADLINE, || metric("online ") == 2.0);
    assert_eq!(metric("accounts "), 2.0);
    let answered = metric("hello_answered_total ");
    eventually("HELLOs go on", DEADLINE, || metric("hello_answered_total ") > answered + 1.0);
    assert!(metric("requests_total{verb=\"search\",code=\"ok\"} ") >= 1.0);
    let (status, health) = http_get(&socket, "/health");
    assert_eq!(status, 200, "{health}");
}
