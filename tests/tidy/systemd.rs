//! The units: foreground, notify, hardened; and systemd itself has nothing against them.

use std::{fs, process::Command};

use crate::source::root;

const UNITS: [&str; 3] = ["registryd.service", "peerd.service", "peerd.socket"];

fn unit(name: &str) -> String {
    fs::read_to_string(root().join("systemd").join(name)).expect("a unit of the repository")
}

#[track_caller]
fn assert_lines(name: &str, lines: &[&str]) {
    let text = unit(name);
    for line in lines {
        assert!(text.lines().any(|l| l == *line), "{name} lacks {line}");
    }
}

#[test]
fn daemons_run_in_the_foreground_and_tell_when_they_are_ready() {
    for name in ["registryd.service", "peerd.service"] {
        assert_lines(
            name,
            &[
                "Type=notify",
                "Restart=on-failure",
                "StartLimitIntervalSec=0",
                "WatchdogSec=90s",
                "NoNewPrivileges=yes",
            ],
        );
        assert!(!unit(name).contains("--daemonize"), "{name}");
        assert!(!unit(name).contains("User=root"), "{name}");
    }
    assert_lines(
        "registryd.service",
        &["DynamicUser=yes", "StateDirectory=registryd", "ExecReload=/bin/kill -HUP $MAINPID"],
    );
    assert_lines("peerd.socket", &["SocketMode=0600", "DirectoryMode=0700"]);
}

#[test]
fn systemd_accepts_the_units() {
    if !harness::has_program("systemd-analyze") {
        return;
    }
    // The programs are looked for where the units name them: give it some that are there.
    let folder = tempfile::tempdir().expect("a temporary folder");
    for name in UNITS {
        let text = unit(name).replace("/usr/local/bin/registryd", "/bin/true");
        let text = text.replace("/usr/local/bin/peerd", "/bin/true");
        fs::write(folder.path().join(name), text).expect("our own folder");
    }
    for (name, scope) in [("registryd.service", "--system"), ("peerd.service", "--user")] {
        let mut command = Command::new("systemd-analyze");
        command.args(["verify", "--man=no", scope]).arg(folder.path().join(name));
        if scope == "--user" {
            command.arg(folder.path().join("peerd.socket")).env("XDG_RUNTIME_DIR", folder.path());
        }
        let output = command.output().expect("systemd-analyze can be run");
        let told = String::from_utf8_lossy(&output.stderr);
        // Where the machine does not run systemd it may complain of that; a unit is named in what is ours.
        let ours: Vec<&str> =
            told.lines().filter(|l| UNITS.iter().any(|u| l.contains(u))).collect();
        assert!(ours.is_empty(), "{name}: {ours:#?}");
    }
}
