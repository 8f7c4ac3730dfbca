//! `admin invites`, and registration with them.

use harness::{Ctl, PASSWORD, Peer, Registry};
use p2pchat_host::terminal::is_hostile;
use registryd_proto::Code;
use serde_json::Value;

/// `p2pctl create-account` with a code.
fn create(peer: &Peer, registry: &Registry, code: Option<&str>) -> Ctl {
    let address = registry.address();
    let args = ["create-account", peer.name(), "--registry", &address, "--password-stdin"];
    let call = peer.ctl_with().args(&args).stdin(format!("{PASSWORD}\n"));
    match code {
        Some(code) => call.args(&["--invite", code]),
        None => call,
    }
}

fn invitation(registry: &Registry, args: &[&str]) -> Value {
    registry.admin_with().args(&["invites", "create"]).args(args).run().ok()
}

#[test]
fn only_who_was_invited_gets_an_account() {
    let registry = Registry::start_with(&["--registration", "invite"], "info");
    let invite = invitation(&registry, &["--note", "for ann"]);
    assert_eq!(invite["schema"], "registryd.admin.invite/1");
    assert_eq!((&invite["uses"], &invite["state"]), (&1.into(), &"open".into()));
    let code = invite["code"].as_str().expect("told once");

    let [ann, bob] = ["ann", "bob"].map(Peer::start);
    let error = create(&ann, &registry, None).run().failed(Code::Blocked);
    assert!(error["message"].as_str().is_some_and(|m| m.contains("--invite")), "{error}");
    create(&ann, &registry, Some("abcdefghijklmnopqrstuvwxyz")).run().failed(Code::Blocked);
    create(&ann, &registry, Some(code)).run().ok();
    ann.login(&[]).ok();
    create(&bob, &registry, Some(code)).run().failed(Code::Blocked);

    let listed = registry.admin(&["invites", "list"]).ok();
    assert_eq!(listed["schema"], "registryd.admin.invites/1");
    assert_eq!(listed["invites"][0]["state"], "used_up");
    assert!(!listed.to_string().contains(code), "a code is told once: {listed}");
}

#[test]
fn an_invitation_taken_back_makes_no_account() {
    let registry = Registry::start_with(&["--registration", "invite"], "info");
    let invite = invitation(&registry, &["--uses", "5", "--expires", "1h"]);
    let (id, code) = (invite["id"].to_string(), invite["code"].as_str().expect("told once"));
    assert_eq!(registry.admin(&["invites", "revoke", &id]).ok()["state"], "revoked");
    create(&Peer::start("ann"), &registry, Some(code)).run().failed(Code::Blocked);
    registry.admin(&["invites", "revoke", "99"]).failed(Code::NotFound);
}

#[test]
fn of_twenty_at_once_with_three_uses_three_get_in() {
    let registry = Registry::start_with(&["--registration", "invite"], "info");
    let invite = invitation(&registry, &["--uses", "3"]);
    let code = invite["code"].as_str().expect("told once");
    let names: Vec<String> = (0..20).map(|n| format!("user{n}")).collect();
    let peers: Vec<Peer> = names.iter().map(|name| Peer::start(name)).collect();
    let racing: Vec<_> =
        peers.iter().map(|peer| create(peer, &registry, Some(code)).spawn()).collect();
    let ended: Vec<_> = racing.into_iter().map(harness::Running::wait).collect();
    let (made, refused): (Vec<_>, Vec<_>) = ended.iter().partition(|out| out.code == Some(0));
    assert_eq!(made.len(), 3, "{ended:#?}");
    for output in refused {
        output.failed(Code::Blocked);
    }
    let listed = registry.admin(&["invites", "list"]).ok();
    assert_eq!(listed["invites"][0]["used"], 3);
}

#[test]
fn a_closed_registry_takes_nobody_but_whom_the_operator_adds() {
    let registry = Registry::start_with(&["--registration", "closed"], "info");
    let invite = invitation(&registry, &[]);
    let ann = Peer::start("ann");
    let error = create(&ann, &registry, invite["code"].as_str()).run().failed(Code::Blocked);
    assert!(error["message"].as_str().is_some_and(|m| m.contains("no new accounts")), "{error}");
    super::add_user(&registry, "ann");
    ann.login(&["--registry", &registry.address()]).ok();
}

#[test]
fn a_note_does_nothing_to_the_terminal_of_whoever_lists_it() {
    let registry = Registry::start();
    let note = "red \u{1b}[31m, bidi \u{202e}, two\nlines, שלום";
    invitation(&registry, &["--note", note]);
    let text = registry.bare_admin().args(&["invites", "list"]).run();
    assert_eq!(text.stdout.lines().count(), 2, "a header and a row: {text:#?}");
    let hostile = |c: char| c != '\n' && is_hostile(c);
    assert!(!text.stdout.contains(hostile), "{text:#?}");
    assert!(text.stdout.contains("שלום"), "{text:#?}");
    let json = registry.admin(&["invites", "list"]);
    assert!(!json.stdout.contains(hostile), "{json:#?}");
    assert_eq!(json.ok()["invites"][0]["note"], note, "it says the same");
}
