//! What a session costs, and that nothing but the beginning of one takes memory.

use registryd_proto::hello::{Hello, HelloKey};

use super::*;

const BOOT: u64 = 77;
const PACE: Pace = Pace { interval_min_ms: 1000, hello_per_second_max: 20_000 };

impl Presence {
    /// The memory of all sessions: slots, table and what is held in reserve.
    fn bytes(&self) -> usize {
        self.slab.bytes() + self.index.bytes() + size_of::<Self>() + size_of::<[SlotId; 256]>()
    }
}

fn with_sessions(accounts: impl Iterator<Item = u64>) -> Presence {
    let mut presence = Presence::new(BOOT, PACE, None, 0);
    for account in accounts {
        presence.open(Seat { account: AccountId(account), epoch: 1, salt: [3; 16], version: 0 });
    }
    presence
}

fn hello(presence: &mut Presence, account: u64, counter: u64, now_ms: u64) {
    let key = HelloKey::from_bytes([1; 32]);
    presence.learn(AccountId(account), 1, &SessionKeys { peer: key.clone(), registry: key });
    let hello = Hello { session: account, epoch: 1, boot: BOOT, counter, interval_ms: 1000 };
    let answered = presence.on_hello(&hello, ([192, 0, 2, 1], 9).into(), now_ms);
    assert!(answered.is_some());
}

#[test]
fn a_million_sessions_cost_160_bytes_each_at_most_with_holes_between_accounts() {
    for step in [1, 2, 10] {
        let presence = with_sessions((0..1_000_000).map(|n| 1 + n * step));
        assert_eq!(presence.sessions(), 1_000_000);
        let each = presence.bytes() as f64 / 1e6;
        assert!(each <= if step <= 2 { 140.0 } else { 175.0 }, "{each} bytes with one in {step}");
    }
}

#[test]
fn hellos_and_expiries_take_no_memory() {
    const SESSIONS: u64 = 10_000;
    let mut presence = with_sessions(1..=SESSIONS);
    let before = presence.bytes();
    for round in 1..=20 {
        let now_ms = round * 10_000;
        // Half of them fall silent each time, and are counted out.
        let accounts = (1..=SESSIONS).filter(|account| (account + round).is_multiple_of(2));
        for account in accounts {
            hello(&mut presence, account, round, now_ms);
        }
        while presence.tick(now_ms + 3_000) {}
        assert_eq!(presence.online(), 0);
    }
    assert_eq!(presence.bytes(), before);
}

#[test]
fn who_comes_and_goes_leaves_nothing_behind() {
    let mut presence = with_sessions(1..=5_000);
    let before = presence.bytes();
    for epoch in 1..=20 {
        let now_ms = epoch * 400_000;
        for account in 1..=5_000 {
            let seat = Seat { account: AccountId(account), epoch, salt: [3; 16], version: 0 };
            presence.open(seat);
            let hello = Hello { session: account, epoch, boot: BOOT, counter: 1, interval_ms: 1 };
            presence.on_hello(&hello, ([192, 0, 2, 1], 9).into(), now_ms).expect("answered");
            presence.leave(AccountId(account), epoch);
        }
        assert_eq!((presence.online(), presence.sessions()), (0, 0));
        while presence.tick(now_ms + 70_000) {}
        assert_eq!(presence.slab.taken(), 0, "given back within the horizon");
    }
    assert!(presence.bytes() <= before);
    assert!(presence.ended.len() <= 10_000);
    for _ in 0..2 {
        presence.ended.move_on(u64::MAX / 2);
    }
}
