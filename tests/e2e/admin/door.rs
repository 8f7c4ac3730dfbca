//! Who gets to the operator's socket, when it is there, and what is said of a wrong command line.

use std::{
    fs,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::Path,
    process::Command,
};

use harness::{Ctl, Registry, binaries, has_program, running_as_root};
use registryd_proto::Code;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o777
}

#[test]
fn the_socket_is_private_and_goes_with_the_registry() {
    let mut registry = Registry::start();
    let socket = registry.data().join("admin.sock");
    assert_eq!((mode(&registry.data()), mode(&socket)), (0o700, 0o600));
    let health = registry.admin(&["health"]).ok();
    assert_eq!(health["schema"], "registryd.admin.health/1");
    assert_eq!(health["healthy"], true);

    assert!(registry.daemon().stop().success());
    assert!(!socket.exists(), "a stop in good order leaves nothing");
    let error =
        registry.admin(&["health"]).failed_as("registryd_not_running", Code::PeerdNotRunning);
    let hint = error["hint"].as_str().expect("a hint");
    assert!(hint.contains("systemctl start registryd"), "{hint}");
    assert_eq!(error["retryable"], true);
}

#[test]
fn a_socket_left_by_a_kill_is_replaced_and_two_do_not_share_one() {
    let mut registry = Registry::start();
    let socket = registry.data().join("admin.sock");
    registry.kill();
    assert!(fs::metadata(&socket).expect("left behind").file_type().is_socket());
    registry.admin(&["stats"]).failed_as("registryd_not_running", Code::PeerdNotRunning);
    registry.restart();
    registry.admin(&["stats"]).ok();

    let mut second = Command::new(&binaries().registryd);
    second.arg("--data-dir").arg(registry.data()).args(["--listen", "127.0.0.1:0"]);
    let ended = Ctl::of_registryd(second).run();
    assert_eq!(ended.code, Some(i32::from(Code::StateInUse.exit_code())), "{ended:#?}");
    registry.admin(&["stats"]).ok();
}

#[test]
fn a_place_that_cannot_be_had_is_told_by_the_exit_code() {
    let registry = Registry::start();
    let taken = registry.socket_address().to_string();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let places = [
        (taken.as_str(), Code::Conflict),
        // For documentation: no machine has it.
        ("192.0.2.1:0", Code::Usage),
        ("no-such-host.invalid:1", Code::Usage),
    ];
    for (listen, code) in places {
        let mut other = Command::new(&binaries().registryd);
        other.arg("--data-dir").arg(folder.path().join("data")).args(["--listen", listen]);
        let ended = Ctl::of_registryd(other).run();
        assert_eq!(ended.code, Some(i32::from(code.exit_code())), "{ended:#?}");
        assert!(ended.stderr.contains(listen), "{ended:#?}");
    }
}

#[test]
#[expect(clippy::print_stderr, reason = "a test that is left out says so")]
fn another_user_is_refused_by_the_modes_and_by_its_id() {
    if !running_as_root() || !has_program("setpriv") {
        eprintln!("SKIPPED: only root, with setpriv, can play another user");
        return;
    }
    let registry = Registry::start();
    let open = tempfile::tempdir().expect("a temporary folder");
    let allow = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("our own");
    };
    allow(open.path(), 0o755);
    let program = open.path().join("registryd");
    fs::copy(&binaries().registryd, &program).expect("copied");
    let as_nobody = || {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&program);
        command.arg("admin").arg("--data-dir").arg(registry.data());
        Ctl::of_registryd(command).args(&["--json", "users", "list"]).run()
    };
    as_nobody().failed(Code::Blocked);

    // However wide somebody opens the door, who comes in is looked at.
    let data = registry.data();
    allow(data.parent().expect("a temporary folder"), 0o755);
    allow(&data, 0o755);
    allow(&data.join("admin.sock"), 0o666);
    let error = as_nobody().failed(Code::Blocked);
    assert!(error["message"].as_str().is_some_and(|m| m.contains("root")), "{error}");
    registry.admin(&["users", "list"]).ok();
}

#[test]
fn the_folder_may_come_from_the_configuration() {
    let registry = Registry::start();
    let config = registry.data().with_file_name("registryd.toml");
    fs::write(&config, format!("data_dir = {:?}\n", registry.data())).expect("written");
    let with_config = || {
        let mut command = Command::new(&binaries().registryd);
        command.arg("--config").arg(&config).args(["admin", "--json", "health"]);
        Ctl::of_registryd(command).run()
    };
    with_config().ok();
    fs::write(&config, "data_folder = 1\n").expect("written");
    let error = with_config().failed(Code::Usage);
    assert!(error["message"].as_str().is_some_and(|m| m.contains("data_folder")), "{error}");
}

#[test]
fn what_cannot_be_meant_is_refused_before_anything_is_sent() {
    let registry = Registry::start();
    for args in [
        &["users"][..],
        &["users", "add"],
        &["users", "add", "A B", "--password-stdin"],
        &["users", "add", "ann", "--password", "in-the-open"],
        &["users", "add", "ann"],
        &["users", "show"],
        &["users", "show", "../ann"],
        &["users", "list", "--limit", "0"],
        &["users", "list", "--after", ""],
        &["users", "rename", "ann"],
        &["sessions", "kick", "-rf"],
        &["sessions", "list", "--limit", "x"],
        &["rooms", "show", "'; drop table room; --"],
        &["rooms", "delete"],
        &["rooms", "list", "--after", "A B"],
        &["invites", "create", "--uses", "0"],
        &["invites", "create", "--uses", "-1"],
        &["invites", "create", "--uses", "2000000"],
        &["invites", "create", "--expires", "0"],
        &["invites", "create", "--expires", "20y"],
        &["invites", "create", "--expires", "soon"],
        &["invites", "create", "--note", &"x".repeat(501)],
        &["invites", "revoke", "x"],
        &["stats", "--verbose"],
        &["shell"],
    ] {
        registry.admin(args).failed(Code::Usage);
    }
    let users = registry.admin(&["users", "list"]).ok();
    assert_eq!(users["users"], serde_json::json!([]));
}

#[test]
fn figures_can_be_read_by_people_and_by_scripts() {
    let registry = Registry::start();
    let stats = registry.admin(&["stats"]).ok();
    assert_eq!(stats["schema"], "registryd.admin.stats/1");
    assert_eq!(stats["sessions"], 0);
    let text = registry.bare_admin().args(&["stats"]).run();
    assert!(text.stdout.lines().any(|line| line == "sessions: 0"), "{text:#?}");
    let health = registry.bare_admin().args(&["health"]).run();
    assert!(health.stdout.lines().any(|line| line == "healthy: true"), "{health:#?}");
    let help = registry.bare_admin().args(&["--help"]).run();
    assert_eq!(help.code, Some(0));
    for noun in ["users", "sessions", "rooms", "invites", "stats", "health"] {
        assert!(help.stdout.contains(noun), "{noun}: {}", help.stdout);
    }
}
