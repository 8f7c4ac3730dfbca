//! `admin sessions`: list, and kick as the user notices it.

use harness::{DEADLINE, eventually};
use registryd_proto::Code;

use crate::online;

#[test]
fn a_kicked_user_sees_it_and_may_come_back() {
    let (registry, [bob, ann]) = online(["bob", "ann"]);
    let listed = registry.admin(&["sessions", "list"]).ok();
    assert_eq!(listed["schema"], "registryd.admin.sessions/1");
    let sessions = listed["sessions"].as_array().expect("a list");
    assert_eq!(sessions.len(), 2, "{listed}");
    assert_eq!(sessions[0]["username"], "bob", "the older account first");
    assert_eq!(sessions[0]["presence"], "online");

    let ended = registry.admin(&["sessions", "kick", "bob"]).ok();
    assert_eq!(ended["schema"], "registryd.admin.session/1");
    assert_eq!((&ended["username"], &ended["state"]), (&"bob".into(), &"ended".into()));
    eventually("bob's peerd knows that it is logged out", DEADLINE, || {
        (bob.status()["session"] == "logged_out").then_some(())
    });
    bob.listen(&["--after", "0", "--type", "logged_out"]).wait_for_type("logged_out");
    assert_eq!(ann.presence_of("bob"), "offline");
    let left = registry.admin(&["sessions", "list"]).ok();
    assert_eq!(left["sessions"].as_array().map(Vec::len), Some(1), "{left}");
    registry.admin(&["sessions", "kick", "bob"]).failed(Code::NotLoggedIn);
    registry.admin(&["sessions", "kick", "nobody"]).failed(Code::NotFound);
    bob.login(&[]).ok();
    bob.wait_online();
}
