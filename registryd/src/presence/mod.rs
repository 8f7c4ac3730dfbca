//! Who is online, by HELLO alone. Pure: time and datagrams come in, answers go out; no socket, no clock,
//! no key. Memory only: a restart begins with every session unknown, and the boot challenge brings back
//! those that are alive.
//!
//! The interval grows with the number online, so that the work of HELLO is bounded: with `n` online it is
//! `max(minimum, n / rate)`, so that at most `rate` HELLOs come in a second. A peer counts as offline
//! after three times the largest of the interval that it confirmed and the last two offered to it.
//!
//! Invariants: a HELLO with another boot id, another epoch, or a counter not above the last one changes
//! nothing. The counter of what the registry sends only grows within a boot, over all sessions.

mod watch;
mod wheel;

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use registryd_proto::hello::{Answer, Hello};

pub(crate) use watch::{Arrival, TooManyWatches};

use self::{watch::Watches, wheel::Wheel};
use crate::store::AccountId;

/// Missed intervals after which a peer is offline.
const MISSED_INTERVALS: u64 = 3;

/// No interval is longer, whatever a peer says that it uses.
const INTERVAL_MS_MAX: u32 = 10 * 60 * 1000;

/// How the interval follows the number online.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// The shortest interval.
    pub interval_min_ms: u32,
    /// The most HELLOs in a second.
    pub hello_per_second_max: u32,
}

impl Pace {
    /// The interval for so many online.
    pub fn interval_ms(&self, online: usize) -> u32 {
        let needed = online as u64 * 1000 / u64::from(self.hello_per_second_max.max(1));
        u32::try_from(needed).unwrap_or(u32::MAX).clamp(self.interval_min_ms, INTERVAL_MS_MAX)
    }
}

/// A session to be listened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seat {
    /// Whose; the session id on the wire.
    pub account: AccountId,
    /// Its epoch.
    pub epoch: u64,
    /// Derives its key.
    pub salt: [u8; 16],
    /// The account's version.
    pub version: u64,
}

/// What presence says of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// A HELLO came in time.
    Online {
        /// Since the last HELLO.
        last_hello_ms_ago: u64,
    },
    /// None did.
    Offline {
        /// Since the last HELLO, if any came since the registry started.
        last_hello_ms_ago: Option<u64>,
    },
    /// The registry restarted a moment ago, and the session has not been heard since.
    Unknown {
        /// When that is decided.
        grace_ms: u64,
    },
}

/// A datagram to be sealed and sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outgoing {
    /// Where to.
    pub address: SocketAddr,
    /// What to seal.
    pub answer: Answer,
    /// Derives the key to seal it with.
    pub salt: [u8; 16],
}

#[derive(Debug)]
struct Slot {
    seat: Seat,
    /// Of the last HELLO that counted; 0 before the first.
    counter: u64,
    address: Option<SocketAddr>,
    last_hello_ms: Option<u64>,
    /// Offline from here on; 0 before the first HELLO.
    deadline_ms: u64,
    /// Offered in the last two answers.
    offered_ms: [u32; 2],
    /// The tick of the wheel at which this slot is looked at; `None`: not counted as online.
    due_tick: Option<u64>,
}

/// The state of all sessions.
#[derive(Debug)]
pub(crate) struct Presence {
    boot: u64,
    pace: Pace,
    interval_ms: u32,
    grace_until_ms: u64,
    sent: u64,
    online: usize,
    slots: HashMap<AccountId, Slot>,
    wheel: Wheel,
    watches: Watches,
}

impl Presence {
    /// Begins a boot. `interval` is the one in force before the restart, `None` for the first start ever.
    pub(crate) fn new(boot: u64, pace: Pace, interval: Option<Duration>, now_ms: u64) -> Self {
        let before_ms = interval.map(|i| u64::try_from(i.as_millis()).unwrap_or(u64::MAX));
        let before_ms = before_ms.map(|ms| ms.min(u64::from(INTERVAL_MS_MAX)));
        let interval_ms = before_ms.and_then(|ms| u32::try_from(ms).ok()).unwrap_or(0);
        Self {
            boot,
            pace,
            interval_ms: interval_ms.max(pace.interval_min_ms),
            grace_until_ms: now_ms + MISSED_INTERVALS * before_ms.unwrap_or(0),
            sent: 0,
            online: 0,
            slots: HashMap::new(),
            wheel: Wheel::new(now_ms),
            watches: Watches::default(),
        }
    }

    /// The boot id.
    pub(crate) fn boot(&self) -> u64 {
        self.boot
    }

    /// The interval in force.
    pub(crate) fn interval_ms(&self) -> u32 {
        self.interval_ms
    }

    /// How many are online, as of the last [`tick`](Self::tick).
    pub(crate) fn online(&self) -> usize {
        self.online
    }

    /// The interval that should be in force, if it is off by more than a tenth. The caller keeps it on
    /// disk first and then calls [`set_interval`](Self::set_interval). It does not shrink while the peers
    /// of before a restart are still coming back: few online says nothing then.
    pub(crate) fn wanted_interval_ms(&self, now_ms: u64) -> Option<u32> {
        let wanted = self.pace.interval_ms(self.online);
        let settled = now_ms >= self.grace_until_ms || wanted > self.interval_ms;
        (settled && wanted.abs_diff(self.interval_ms) > self.interval_ms / 10).then_some(wanted)
    }

    /// Whether watchers are to be told.
    pub(crate) fn has_arrived(&self) -> bool {
        self.watches.has_arrived()
    }

    /// Offers another interval from now on.
    pub(crate) fn set_interval(&mut self, interval_ms: u32) {
        self.interval_ms = interval_ms;
    }

    /// Listens for a session. One with the same epoch goes on as it is; a new epoch counts as offline
    /// until its first HELLO; an older one came late from a race and is ignored.
    pub(crate) fn open(&mut self, seat: Seat) {
        if let Some(slot) = self.slots.get_mut(&seat.account)
            && slot.seat.epoch >= seat.epoch
        {
            slot.seat.version = slot.seat.version.max(seat.version);
            return;
        }
        let last_hello_ms = self.close(seat.account).and_then(|slot| slot.last_hello_ms);
        let slot = Slot {
            seat,
            counter: 0,
            address: None,
            last_hello_ms,
            deadline_ms: 0,
            offered_ms: [self.interval_ms; 2],
            due_tick: None,
        };
        self.slots.insert(seat.account, slot);
    }

    /// Forgets a session: logout, takeover, delete.
    pub(crate) fn leave(&mut self, account: AccountId) {
        self.close(account);
    }

    fn close(&mut self, account: AccountId) -> Option<Slot> {
        let slot = self.slots.remove(&account)?;
        self.online -= usize::from(slot.due_tick.is_some());
        Some(slot)
    }

    /// What derives the key of a session, if it is the one listened for.
    pub(crate) fn salt(&self, account: AccountId, epoch: u64) -> Option<[u8; 16]> {
        self.slots.get(&account).filter(|s| s.seat.epoch == epoch).map(|s| s.seat.salt)
    }

    /// Takes a HELLO that opened under its session's key. `None`: say nothing.
    pub(crate) fn on_hello(
        &mut self,
        hello: &Hello,
        from: SocketAddr,
        now_ms: u64,
    ) -> Option<Outgoing> {
        let account = AccountId(hello.session);
        let slot = self.slots.get_mut(&account).filter(|s| s.seat.epoch == hello.epoch)?;
        if hello.boot == self.boot {
            if hello.counter <= slot.counter {
                return None;
            }
            let arrived = !slot.is_online(now_ms);
            slot.hear(hello, from, self.interval_ms, now_ms);
            if slot.due_tick.is_none() {
                slot.due_tick = Some(self.wheel.insert(account, slot.deadline_ms));
                self.online += 1;
            }
            if arrived {
                self.watches.arrive(account);
            }
        }
        self.say(account, Some(from), hello.counter)
    }

    /// A datagram that tells a peer its account's new version. `None`: it is offline, and will see the
    /// version when it is back.
    pub(crate) fn nudge(
        &mut self,
        account: AccountId,
        version: u64,
        now_ms: u64,
    ) -> Option<Outgoing> {
        let slot = self.slots.get_mut(&account)?;
        slot.seat.version = slot.seat.version.max(version);
        if !slot.is_online(now_ms) {
            return None;
        }
        let address = slot.address;
        self.say(account, address, 0)
    }

    fn say(
        &mut self,
        account: AccountId,
        address: Option<SocketAddr>,
        echo: u64,
    ) -> Option<Outgoing> {
        let slot = self.slots.get(&account)?;
        self.sent += 1;
        let answer = Answer {
            session: account.0,
            epoch: slot.seat.epoch,
            boot: self.boot,
            counter: self.sent,
            echo,
            interval_ms: self.interval_ms,
            version: slot.seat.version,
        };
        Some(Outgoing { address: address?, answer, salt: slot.seat.salt })
    }

    /// Whether an account is online.
    pub(crate) fn status(&self, account: AccountId, now_ms: u64) -> Status {
        let Some(slot) = self.slots.get(&account) else {
            return Status::Offline { last_hello_ms_ago: None };
        };
        match slot.last_hello_ms.map(|at| now_ms.saturating_sub(at)) {
            Some(ago) if slot.is_online(now_ms) => Status::Online { last_hello_ms_ago: ago },
            None if now_ms < self.grace_until_ms => {
                Status::Unknown { grace_ms: self.grace_until_ms - now_ms }
            }
            last_hello_ms_ago => Status::Offline { last_hello_ms_ago },
        }
    }

    /// Moves on: counts out those whose time is over. Call about once a second.
    pub(crate) fn tick(&mut self, now_ms: u64) {
        while let Some((tick, due)) = self.wheel.next_due(now_ms) {
            for account in due {
                let Some(slot) = self.slots.get_mut(&account) else { continue };
                if slot.due_tick != Some(tick) {
                    continue;
                }
                if slot.is_online(now_ms) {
                    slot.due_tick = Some(self.wheel.insert(account, slot.deadline_ms));
                } else {
                    slot.due_tick = None;
                    self.online -= 1;
                }
            }
        }
    }

    /// Lets `watcher` know once when `user` comes online, and returns how it is now. Who is online
    /// already is not waited for.
    ///
    /// # Errors
    /// [`TooManyWatches`].
    pub(crate) fn watch(
        &mut self,
        watcher: AccountId,
        user: AccountId,
        now_ms: u64,
    ) -> Result<Status, TooManyWatches> {
        let status = self.status(user, now_ms);
        if !matches!(status, Status::Online { .. }) {
            self.watches.add(watcher, user)?;
        }
        Ok(status)
    }

    /// Arrivals since the last call: raise the watchers' versions, and [`date`](Self::date_arrival) them.
    pub(crate) fn take_arrived(&mut self) -> Vec<Arrival> {
        self.watches.take_arrived()
    }

    /// The watcher's version that was raised for an arrival.
    pub(crate) fn date_arrival(&mut self, arrival: Arrival, version: u64) {
        self.watches.date(arrival, version);
    }

    /// Who came online for a watcher after a version. Older ones are forgotten: the watcher has them.
    pub(crate) fn arrivals(&mut self, watcher: AccountId, after_version: u64) -> Vec<AccountId> {
        self.watches.after(watcher, after_version)
    }
}

impl Slot {
    fn is_online(&self, now_ms: u64) -> bool {
        now_ms < self.deadline_ms
    }

    fn hear(&mut self, hello: &Hello, from: SocketAddr, offer_ms: u32, now_ms: u64) {
        self.counter = hello.counter;
        self.address = Some(from);
        self.last_hello_ms = Some(now_ms);
        self.offered_ms = [self.offered_ms[1], offer_ms];
        let [before, after] = self.offered_ms;
        let longest = hello.interval_ms.min(INTERVAL_MS_MAX).max(before).max(after);
        self.deadline_ms = now_ms + MISSED_INTERVALS * u64::from(longest);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOOT: u64 = 77;
    const BOB: AccountId = AccountId(2);
    const ANN: AccountId = AccountId(1);
    const PACE: Pace = Pace { interval_min_ms: 1000, hello_per_second_max: 20_000 };

    fn seat(account: AccountId, epoch: u64) -> Seat {
        Seat { account, epoch, salt: [3; 16], version: 5 }
    }

    fn presence() -> Presence {
        let mut presence = Presence::new(BOOT, PACE, None, 0);
        presence.open(seat(BOB, 1));
        presence
    }

    fn from() -> SocketAddr {
        ([192, 0, 2, 1], 9).into()
    }

    fn hello(counter: u64) -> Hello {
        Hello { session: BOB.0, epoch: 1, boot: BOOT, counter, interval_ms: 1000 }
    }

    fn online(presence: &Presence, now_ms: u64) -> bool {
        matches!(presence.status(BOB, now_ms), Status::Online { .. })
    }

    #[test]
    fn online_from_the_first_hello_to_three_intervals_after_the_last() {
        let mut presence = presence();
        assert!(!online(&presence, 0), "login alone is no presence");
        let said = presence.on_hello(&hello(1), from(), 100).expect("answered");
        assert_eq!((said.answer.echo, said.answer.version, said.address), (1, 5, from()));
        assert!(online(&presence, 3_099));
        assert!(!online(&presence, 3_100));
        presence.tick(5_000);
        assert_eq!(presence.online(), 0);
        assert_eq!(presence.status(BOB, 5_000), Status::Offline { last_hello_ms_ago: Some(4_900) });
    }

    #[test]
    fn a_replay_or_an_old_epoch_changes_nothing() {
        let mut presence = presence();
        presence.on_hello(&hello(5), from(), 0).expect("answered");
        let elsewhere = ([203, 0, 113, 9], 9).into();
        for counter in [5, 4] {
            assert_eq!(presence.on_hello(&hello(counter), elsewhere, 2_000), None);
        }
        let old = Hello { epoch: 0, ..hello(9) };
        assert_eq!(presence.on_hello(&old, elsewhere, 2_000), None);
        assert!(!online(&presence, 3_000));
        let nudge = presence.nudge(BOB, 6, 2_000).expect("online");
        assert_eq!(nudge.address, from(), "a replay moves no address");
    }

    #[test]
    fn another_boot_id_is_challenged_and_changes_nothing() {
        let mut presence = presence();
        let old = Hello { boot: 76, ..hello(900) };
        let said = presence.on_hello(&old, from(), 10).expect("challenged");
        assert_eq!((said.answer.boot, said.answer.echo), (BOOT, 900));
        assert!(!online(&presence, 10));
        assert_eq!(presence.nudge(BOB, 6, 10), None, "it is not online");
        presence.on_hello(&hello(901), from(), 11).expect("answered");
        assert!(online(&presence, 11));
        presence.on_hello(&old, from(), 3_500).expect("challenged again");
        assert!(!online(&presence, 3_500), "an old datagram brings nobody back");
    }

    #[test]
    fn the_time_out_follows_the_largest_interval_confirmed_or_offered() {
        let mut presence = presence();
        presence.on_hello(&Hello { interval_ms: 4_000, ..hello(1) }, from(), 0).expect("answered");
        assert!(online(&presence, 11_999));
        presence.set_interval(9_000);
        presence.on_hello(&hello(2), from(), 1_000).expect("answered");
        assert!(online(&presence, 27_999), "it may use the 9 s offered just then");
        let endless = Hello { interval_ms: u32::MAX, ..hello(3) };
        presence.on_hello(&endless, from(), 2_000).expect("answered");
        assert!(!online(&presence, 2_000 + 3 * 600_000), "no peer stays for ever by saying so");
    }

    #[test]
    fn the_interval_keeps_hello_work_bounded() {
        assert_eq!(PACE.interval_ms(0), 1000);
        assert_eq!(PACE.interval_ms(20_000), 1000);
        assert_eq!(PACE.interval_ms(1_000_000), 50_000);
        assert_eq!(PACE.interval_ms(usize::MAX / 2000), INTERVAL_MS_MAX);
    }

    #[test]
    fn after_a_restart_a_session_is_unknown_until_the_grace_is_over() {
        let before = Some(Duration::from_secs(2));
        let mut presence = Presence::new(BOOT, PACE, before, 1_000);
        presence.open(seat(BOB, 1));
        assert_eq!(presence.status(BOB, 2_000), Status::Unknown { grace_ms: 5_000 });
        assert_eq!(presence.status(BOB, 7_000), Status::Offline { last_hello_ms_ago: None });
        assert_eq!(presence.status(ANN, 2_000), Status::Offline { last_hello_ms_ago: None });
        assert_eq!(presence.wanted_interval_ms(6_999), None, "few are back yet");
        assert_eq!(presence.wanted_interval_ms(7_000), Some(1_000));
    }

    #[test]
    fn who_is_online_is_not_waited_for() {
        let mut presence = presence();
        presence.watch(ANN, BOB, 0).expect("offline");
        presence.on_hello(&hello(1), from(), 0).expect("answered");
        assert_eq!(presence.take_arrived(), [Arrival { watcher: ANN, user: BOB }]);
        let status = presence.watch(ANN, BOB, 10).expect("online");
        assert_eq!(status, Status::Online { last_hello_ms_ago: 10 });
        presence.on_hello(&hello(2), from(), 60_000).expect("back again");
        assert_eq!(presence.take_arrived(), []);
    }

    #[test]
    fn an_older_epoch_never_replaces_a_newer_one() {
        let mut presence = presence();
        presence.open(seat(BOB, 3));
        presence.open(seat(BOB, 2));
        assert_eq!(presence.salt(BOB, 3), Some([3; 16]));
        assert_eq!(presence.salt(BOB, 2), None);
    }

    #[test]
    fn the_counters_of_what_is_sent_only_grow() {
        let mut presence = presence();
        let mut last = 0;
        for counter in 1..50 {
            let said = presence.on_hello(&hello(counter), from(), counter).expect("answered");
            let nudge = presence.nudge(BOB, counter, counter).expect("online");
            assert!(last < said.answer.counter && said.answer.counter < nudge.answer.counter);
            last = nudge.answer.counter;
        }
    }

    proptest! {
        /// Never offline while HELLOs come in time, whatever interval is offered in between; offline three
        /// intervals after the last; and the count follows.
        #[test]
        fn presence_is_what_the_hellos_say(
            steps in proptest::collection::vec((0_u32..=100, 1_000_u32..30_000, any::<bool>()), 1..60),
        ) {
            let mut presence = presence();
            let (mut now, mut using) = (0, 1_000);
            for (counter, (early, offered, lost)) in (1..).zip(steps) {
                let said = Hello { interval_ms: using, ..hello(counter) };
                let answer = presence.on_hello(&said, from(), now).expect("answered").answer;
                if !lost {
                    using = answer.interval_ms;
                }
                presence.set_interval(offered);
                let next = now + u64::from(using) * u64::from(200 - early) / 100;
                for at in [now, now.midpoint(next), next] {
                    presence.tick(at);
                    prop_assert!(online(&presence, at), "at {at}, using {using}");
                    prop_assert_eq!(presence.online(), 1);
                }
                now = next;
            }
            let end = now + 3 * 30_000;
            presence.tick(end + 1_000);
            prop_assert!(!online(&presence, end));
            prop_assert_eq!(presence.online(), 0);
        }
    }
}
