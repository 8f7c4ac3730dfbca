//! `admin rooms`: list, show, and delete as the members notice it.

use harness::{DEADLINE, eventually};
use registryd_proto::Code;

use crate::online;

#[test]
fn a_room_that_the_operator_deletes_is_gone_for_its_members() {
    let (registry, [ann, bob]) = online(["ann", "bob"]);
    ann.ctl(&["create-room", "den"]).ok();
    ann.ctl(&["create-room", "attic"]).ok();
    bob.ctl(&["join-room", "den"]).ok();
    let listed = registry.admin(&["rooms", "list"]).ok();
    assert_eq!(listed["schema"], "registryd.admin.rooms/1");
    let rooms = listed["rooms"].as_array().expect("a list");
    let names: Vec<_> = rooms.iter().map(|room| &room["room"]).collect();
    assert_eq!(names, ["attic", "den"]);
    let shown = registry.admin(&["rooms", "show", "den"]).ok();
    assert_eq!(shown["schema"], "registryd.admin.room/1");
    assert_eq!((&shown["owner"], &shown["member_count"]), (&"ann".into(), &2.into()));
    assert_eq!(shown["members"][1]["username"], "bob");

    assert_eq!(registry.admin(&["rooms", "delete", "den"]).ok()["state"], "deleted");
    for peer in [&ann, &bob] {
        eventually("the member knows that the room is gone", DEADLINE, || {
            let rooms = peer.ctl(&["rooms"]).ok();
            (!rooms.to_string().contains("den")).then_some(())
        });
    }
    registry.admin(&["rooms", "delete", "den"]).failed(Code::NotFound);
    registry.admin(&["rooms", "show", "den"]).failed(Code::NotFound);
    ann.ctl(&["members", "attic"]).ok();
    // The name is free, as after the owner's delete.
    bob.ctl(&["create-room", "den"]).ok();
}
