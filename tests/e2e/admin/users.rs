//! `admin users`: add, disable, enable, passwd, delete, list, show, and why there is no rename.

use std::{fs, os::unix::fs::PermissionsExt as _};

use harness::{DEADLINE, PASSWORD, Peer, Registry, eventually};
use registryd_proto::Code;

use super::add_user;
use crate::online;

fn login(peer: &Peer, registry: &Registry) -> harness::CtlOutput {
    peer.login(&["--registry", &registry.address()])
}

#[test]
fn an_account_added_by_the_operator_is_taken_over_by_its_first_login() {
    let (registry, [ann]) = online(["ann"]);
    let added = add_user(&registry, "bob");
    assert_eq!(added["schema"], "registryd.admin.user/1");
    assert_eq!((&added["state"], &added["key"]), (&"new".into(), &serde_json::Value::Null));
    ann.ctl(&["search", "bob"]).failed(Code::NotFound);
    let bob = Peer::start("bob");
    bob.create_account(&registry.address()).failed(Code::Conflict);
    login(&bob, &registry).ok();
    eventually("ann finds bob", DEADLINE, || (ann.presence_of("bob") == "online").then_some(()));
    let shown = registry.admin(&["users", "show", "bob"]).ok();
    assert_eq!(shown["state"], "active");
    assert_eq!(shown["address"], "127.0.0.1");
    registry
        .admin_with()
        .args(&["users", "add", "bob", "--password-stdin"])
        .stdin("another password\n")
        .run()
        .failed(Code::Conflict);
}

#[test]
fn a_disabled_user_loses_the_session_and_cannot_log_in() {
    let (registry, [bob]) = online(["bob"]);
    let disabled = registry.admin(&["users", "disable", "bob"]).ok();
    assert_eq!(disabled["state"], "disabled");
    eventually("bob's peerd knows that it is logged out", DEADLINE, || {
        (bob.status()["session"] == "logged_out").then_some(())
    });
    let error = bob.login(&[]).failed(Code::Blocked);
    assert!(error["message"].as_str().is_some_and(|m| m.contains("disabled")), "{error}");
    registry.admin(&["users", "enable", "bob"]).ok();
    bob.login(&[]).ok();
    bob.wait_online();
    registry.admin(&["users", "disable", "nobody"]).failed(Code::NotFound);
    registry.admin(&["users", "enable", "nobody"]).failed(Code::NotFound);
}

#[test]
fn a_forgotten_password_is_replaced_and_the_session_goes_on() {
    let (registry, [bob]) = online(["bob"]);
    let file = registry.data().with_file_name("new-password");
    fs::write(&file, "another password\n").expect("written");
    let name = file.to_str().expect("UTF-8");
    let passwd = ["users", "passwd", "bob", "--password-file", name];
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("our own");
    registry.admin(&passwd).failed(Code::Usage);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("our own");
    registry.admin(&passwd).ok();
    bob.ctl(&["search", "bob"]).ok();
    bob.ctl(&["logout"]).ok();
    bob.login(&[]).failed(Code::BadCredentials);
    let again = bob.ctl_with().args(&["login", "bob", "--password-stdin"]);
    again.stdin("another password\n").run().ok();
    registry
        .admin_with()
        .args(&["users", "passwd", "nobody", "--password-stdin"])
        .stdin(format!("{PASSWORD}\n"))
        .run()
        .failed(Code::NotFound);
}

#[test]
fn a_deleted_user_is_gone_but_the_name_stays_taken() {
    let (registry, [bob]) = online(["bob"]);
    let deleted = registry.admin(&["users", "delete", "bob"]).ok();
    assert_eq!(
        (&deleted["state"], &deleted["session"]),
        (&"deleted".into(), &serde_json::Value::Null)
    );
    eventually("bob's peerd knows that it is logged out", DEADLINE, || {
        (bob.status()["session"] == "logged_out").then_some(())
    });
    bob.login(&[]).failed(Code::BadCredentials);
    Peer::start("bob").create_account(&registry.address()).failed(Code::Conflict);
    registry.admin(&["users", "delete", "bob"]).failed(Code::NotFound);
}

#[test]
fn nobody_is_renamed_and_the_reason_is_told() {
    let registry = Registry::start();
    let error = registry.admin(&["users", "rename", "bob", "rob"]).failed(Code::Blocked);
    let hint = error["hint"].as_str().expect("a hint");
    assert!(hint.contains("keys, rooms"), "{hint}");
}

#[test]
fn a_list_prints_everybody_by_name_and_as_much_as_was_asked_for() {
    let registry = Registry::start();
    for name in ["eve", "ann", "bob"] {
        add_user(&registry, name);
    }
    let all = registry.admin(&["users", "list"]).ok();
    assert_eq!(all["schema"], "registryd.admin.users/1");
    let names = |list: &serde_json::Value| -> Vec<String> {
        let users = list["users"].as_array().expect("a list");
        users.iter().map(|u| u["username"].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(names(&all), ["ann", "bob", "eve"]);
    assert!(all["next"].is_null());
    let first = registry.admin(&["users", "list", "--limit", "2"]).ok();
    assert_eq!((names(&first), &first["next"]), (vec!["ann".into(), "bob".into()], &"bob".into()));
    let rest = registry.admin(&["users", "list", "--after", "bob"]).ok();
    assert_eq!(names(&rest), ["eve"]);

    let text = registry.bare_admin().args(&["users", "list"]).run();
    let lines: Vec<&str> = text.stdout.lines().collect();
    assert!(lines[0].starts_with("USER") && lines[1].starts_with("ann"), "{text:#?}");
    assert_eq!(lines.len(), 4, "{text:#?}");
}
