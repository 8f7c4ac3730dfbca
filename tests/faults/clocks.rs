//! Wall clocks that jump: delivery, order and liveness do not depend on them.

use harness::{DEADLINE, eventually, preload::Faults};

use crate::people::friends;

const HOUR: i64 = 3600;
const TEN_YEARS: i64 = 10 * 365 * 24 * HOUR;

/// Row 15: the wall clock of one user jumps while the daemon runs, and between two starts.
#[test]
fn a_wall_clock_that_jumps_changes_neither_delivery_nor_order_nor_presence() {
    let Some(faults) = Faults::new() else { return };
    let (_registry, [alice, mut bob]) = friends(["alice", "bob"]);
    assert!(bob.restart_in(&faults.environment()));
    bob.wait_online();
    let mut expected = Vec::new();
    let jumps = [0, HOUR, -HOUR, TEN_YEARS, -TEN_YEARS, TEN_YEARS, 0];
    for (n, shift) in jumps.into_iter().chain(jumps).enumerate() {
        faults.shift_clock(shift);
        if n >= jumps.len() {
            bob.stop();
            assert!(
                bob.restart_in(&faults.environment()),
                "it starts with the clock {shift} s off"
            );
            bob.wait_online();
        }
        for (from, whom) in [(&alice, &bob), (&bob, &alice)] {
            let body = format!("{n}: {} with the clock {shift} s off", from.name());
            from.ctl(&["send", whom.name(), &body]).ok();
            expected.push((from.name().to_owned(), body));
        }
        eventually("bob is online", DEADLINE, || alice.presence_of("bob") == "online");
        eventually("alice is online", DEADLINE, || bob.presence_of("alice") == "online");
    }
    let shown = bob.listen(&["--after", "0", "--type", "message"]);
    eventually("each is shown", DEADLINE, || shown.count() >= 2 * jumps.len());
    assert_eq!(shown.count(), 2 * jumps.len(), "once");
    let years: Vec<String> = shown.events().iter().map(|e| e["time"].to_string()).collect();
    let far = |time: &String| !time.contains(&years[0][1..4]);
    assert!(years.iter().any(far), "the shifts were real: {years:?}");
    assert_eq!(alice.history(&["bob"]), expected, "in the order in which all was said");
    assert_eq!(bob.history(&["alice"]), expected, "and the same on both sides");
}
