//! Arrows go down only, and each heavy library has one home.

use std::{collections::BTreeSet, fs};

use crate::source::{Source, assert_none, root, rust};

/// Whether a line of code names a crate or path as a whole word.
fn names(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !part(before) && !part(after)
    })
}

/// Where shipped code outside the allowed places names one of `words`.
fn findings(words: &[&str], concerns: impl Fn(&Source) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for source in rust().iter().filter(|s| concerns(s)) {
        for (number, line) in source.shipped_code() {
            for word in words.iter().filter(|w| names(line, w)) {
                found.push(format!("{}:{number}: {word}", source.path));
            }
        }
    }
    found
}

fn dependencies(manifest: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(root().join(manifest)).expect("a manifest");
    let table = text.split("[dependencies]").nth(1).expect("dependencies");
    let table = table.split("\n[").next().expect("the table's text");
    let name = |line: &str| {
        let end = line.find(['.', ' ', '='])?;
        (end > 0).then(|| line[..end].to_owned())
    };
    table.lines().filter(|l| !l.starts_with('#')).filter_map(name).collect()
}

#[test]
fn crates_import_downwards_only() {
    let ours = ["registryd", "registryd-proto", "p2pchat-host", "peerd", "peerd-proto", "p2pctl"];
    for (manifest, allowed) in [
        ("registryd/proto/Cargo.toml", &[][..]),
        ("registryd/host/Cargo.toml", &["registryd-proto"]),
        ("registryd/Cargo.toml", &["registryd-proto", "p2pchat-host"]),
        ("peerd/proto/Cargo.toml", &["registryd-proto"]),
        ("peerd/Cargo.toml", &["registryd-proto", "p2pchat-host", "peerd-proto"]),
        ("p2pctl/Cargo.toml", &["registryd-proto", "p2pchat-host", "peerd-proto"]),
        (
            "tests/Cargo.toml",
            &["registryd-proto", "p2pchat-host", "peerd-proto", "registryd", "peerd"],
        ),
    ] {
        let dependencies = dependencies(manifest);
        assert!(!dependencies.is_empty(), "{manifest} was read");
        for name in ours.iter().filter(|n| dependencies.contains(**n)) {
            assert!(allowed.contains(name), "{manifest} must not depend on {name}");
        }
    }
}

#[test]
fn quic_is_named_in_the_link_modules_alone() {
    let elsewhere = |s: &Source| {
        !s.is_test() && !["link", "peer", "room"].iter().any(|m| in_module(s, "peerd", m))
    };
    assert_none("iroh outside peerd's link modules", &findings(&["iroh"], elsewhere));
}

#[test]
fn sql_is_named_in_the_stores_alone() {
    let elsewhere = |s: &Source| {
        !s.is_test()
            && !in_module(s, "registryd", "store")
            && !in_module(s, "peerd", "store")
            // What both stores need before a migration.
            && s.path != "registryd/host/src/copy.rs"
    };
    assert_none("rusqlite outside the stores", &findings(&["rusqlite"], elsewhere));
}

#[test]
fn forking_is_named_in_one_file_of_each_daemon() {
    let elsewhere = |s: &Source| !s.is_test() && !s.path.ends_with("/daemonize.rs");
    let words = ["daemonize::Daemonize", "Daemonize::new"];
    assert_none("daemonize outside daemonize.rs", &findings(&words, elsewhere));
}

#[test]
fn the_core_is_pure() {
    let core = |s: &Source| s.path.starts_with("peerd/src/core/") && !s.is_test();
    assert!(rust().iter().any(core), "the core was found");
    let words = [
        "tokio",
        "Instant",
        "SystemTime",
        "std::fs",
        "std::net::UdpSocket",
        "File",
        "std::thread",
        "getrandom",
        "iroh",
        "rusqlite",
        "interprocess",
        "tracing",
    ];
    assert_none("a clock, IO or randomness in the core", &findings(&words, core));
}

#[test]
fn the_doors_do_not_know_each_other() {
    let doors = ["control", "registry", "link", "store"];
    for door in doors {
        for other in doors.iter().filter(|o| **o != door) {
            let own = |s: &Source| in_module(s, "peerd", door) && !s.is_test();
            let path = format!("crate::{other}");
            let rule = format!("peerd's {door} names its {other}");
            let found: Vec<String> = findings(&[&path], own)
                .into_iter()
                // `crate::core::registry` and the like are no doors.
                .filter(|f| !f.contains("core"))
                .collect();
            assert_none(&rule, &found);
        }
    }
}

#[test]
fn stdout_is_written_in_one_file() {
    let elsewhere = |s: &Source| {
        s.path.starts_with("p2pctl/src/")
            && !s.is_test()
            && !s.path.ends_with("/output.rs")
            && !s.path.contains("/terminal")
            && !s.path.contains("/conversation/")
    };
    let words = ["println!", "print!", "io::stdout", "stdout()"];
    assert_none("stdout outside p2pctl/src/output.rs", &findings(&words, elsewhere));
}

fn in_module(source: &Source, package: &str, module: &str) -> bool {
    let start = format!("{package}/src/{module}");
    source.path == format!("{start}.rs") || source.path.starts_with(&format!("{start}/"))
}
