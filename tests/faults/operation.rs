//! Backup and restore killed under way, and health while the disk is full or hangs.

use std::{fs, path::Path, time::Duration};

use harness::{
    DEADLINE, Peer, Registry, eventually, http_get,
    preload::{ALL, Faults, NAMES, SYNCS, WRITES},
};

use crate::sweep::sweep;

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

/// Row 20: kill -9 of `registryd backup` at any call that writes, syncs or names.
#[test]
fn a_backup_killed_at_any_system_call_is_whole_or_the_one_before() {
    let Some(counting) = Faults::new() else { return };
    let counting = counting.count(ALL);
    let registry = Registry::start();
    let alice = Peer::online("alice", &registry);
    let place = tempfile::tempdir().expect("a temporary folder");
    let (first, again) = (place.path().join("first"), place.path().join("again"));
    registry.tool(&["backup", text(&again)]).env(&counting.environment()).run().ok();
    for (at, how) in sweep(counting.calls(), 15) {
        for file in [&first, &again] {
            let faults = Faults::new().expect("built before").kill_at(at, ALL, how);
            let args = ["backup", "--force", text(file)];
            registry.tool(&args).env(&faults.environment()).run();
            if file.exists() {
                registry.tool(&["check", "--full", text(file)]).run().ok();
            }
        }
        assert!(again.exists(), "the one before stays until there is a new one");
        registry.tool(&["backup", "--force", text(&first)]).run().ok();
        fs::remove_file(&first).expect("it was made");
        let left = fs::read_dir(place.path()).expect("ours").flatten().map(|file| file.file_name());
        let of_first: Vec<_> =
            left.filter(|name| name.to_string_lossy().starts_with("first")).collect();
        assert!(of_first.is_empty(), "a backup tidies up behind one that was killed: {of_first:?}");
    }
    alice.ctl(&["search", "alice"]).ok();
}

/// Row 20: kill -9 of `registryd restore` at any call that writes, syncs or names.
#[test]
fn a_restore_killed_at_any_system_call_leaves_the_old_registry_or_the_new() {
    let Some(counting) = Faults::new() else { return };
    let kinds = WRITES | SYNCS | NAMES;
    let counting = counting.count(kinds);
    let mut registry = Registry::start();
    drop(Peer::online("alice", &registry));
    let place = tempfile::tempdir().expect("a temporary folder");
    let file = place.path().join("backup");
    registry.tool(&["backup", text(&file)]).run().ok();
    drop(Peer::online("bob", &registry));
    assert!(registry.daemon().stop().success());
    let old = place.path().join("old");
    copy(&registry.data(), &old);
    let restore = |registry: &Registry, faults: &Faults| {
        registry.tool(&["restore", text(&file)]).env(&faults.environment()).run()
    };
    restore(&registry, &counting).ok();
    let (mut olds, mut news) = (0, 0);
    for (at, how) in sweep(counting.calls(), 20) {
        fs::remove_dir_all(registry.data()).expect("our own folder");
        copy(&old, &registry.data());
        let faults = Faults::new().expect("built before").kill_at(at, kinds, how);
        restore(&registry, &faults);
        registry.restart();
        let sound = registry.tool(&["check", "--full"]).run().ok();
        match sound["counts"]["accounts"].as_u64() {
            Some(2) => olds += 1,
            Some(1) => news += 1,
            other => panic!("call {at}: {other:?} accounts: {sound}"),
        }
        assert!(registry.daemon().stop().success());
        // Whatever was left, the next one works.
        restore(&registry, &Faults::new().expect("built before")).ok();
    }
    assert!(olds > 0 && news > 0, "killed before and behind the decision: {olds}, {news}");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("our own folder");
    for entry in fs::read_dir(from).expect("a folder").flatten() {
        if entry.path().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).expect("a file that can be read");
        }
    }
}

/// Rows 6 and 27: whoever watches sees a full disk and one that hangs, and the end of it.
#[test]
fn a_registry_that_cannot_write_is_not_healthy_until_it_can() {
    let Some(faults) = Faults::new() else { return };
    let place = tempfile::tempdir().expect("a temporary folder");
    let (file, socket) = (place.path().join("registryd.toml"), place.path().join("metrics"));
    let config = format!("[metrics]\nlisten = \"unix:{}\"\n", socket.display());
    fs::write(&file, config).expect("our own folder");
    let mut registry = Registry::start_with(&["--config", text(&file)], "info");
    assert!(registry.restart_in(&faults.environment()));
    let alice = Peer::online("alice", &registry);
    let health = || {
        let (status, body) = http_get(&socket, "/health");
        let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(status == 200, body["healthy"] == true, "{status} {body}");
        (status, body["disk"].clone(), body["store"].clone())
    };
    assert_eq!(health(), (200, "ok".into(), "ok".into()));

    faults.set_full(true);
    assert_ne!(alice.ctl(&["create-room", "full"]).code, Some(0));
    assert_eq!(health(), (503, "full".into(), "ok".into()));
    let (status, metrics) = http_get(&socket, "/metrics");
    assert!(status == 200 && metrics.contains("\np2pchat_registry_store_disk_full 1"), "{metrics}");
    faults.set_full(false);
    // Nobody writes: it finds out by itself.
    eventually("there is space again", DEADLINE, || health() == (200, "ok".into(), "ok".into()));

    faults.set_hanging(true);
    let mut hanging = alice.ctl_with().args(&["create-room", "hanging"]).spawn();
    eventually("the disk hangs", Duration::from_secs(50), || {
        health() == (503, "ok".into(), "silent".into())
    });
    let (status, metrics) = http_get(&socket, "/metrics");
    assert!(status == 200 && metrics.contains("healthy{check=\"store\"} 0"), "{metrics}");
    faults.set_hanging(false);
    eventually("it answers again", DEADLINE, || health().0 == 200);
    hanging.kill();
}
