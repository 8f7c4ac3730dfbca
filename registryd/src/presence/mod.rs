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

#[cfg(test)]
mod tests;
mod watch;
mod wheel;

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use registryd_proto::hello::{Answer, Hello};

pub(crate) use watch::{Arrival, Page, TooManyWatches};

use self::{watch::Watches, wheel::Wheel};
#[cfg(any(test, feature = "simulation"))]
use crate::simulation::Planted;
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
    /// The epoch at which an account without a slot ended; bounded by the number of accounts.
    ended: HashMap<AccountId, u64>,
    wheel: Wheel,
    watches: Watches,
    #[cfg(any(test, feature = "simulation"))]
    planted: Planted,
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
            ended: HashMap::new(),
            wheel: Wheel::new(now_ms),
            watches: Watches::default(),
            #[cfg(any(test, feature = "simulation"))]
            planted: Planted::default(),
        }
    }

    /// Makes it break its rules, for the checks of a simulator to find.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn plant(&mut self, planted: Planted) {
        self.planted = planted;
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

    /// How many sessions are listened for.
    pub(crate) fn sessions(&self) -> usize {
        self.slots.len()
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
    /// until its first HELLO; an older one, or one that ended, came late from a race and is ignored.
    pub(crate) fn open(&mut self, seat: Seat) {
        if self.ended.get(&seat.account).is_some_and(|ended| *ended >= seat.epoch) {
            return;
        }
        self.ended.remove(&seat.account);
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

    /// Forgets sessions up to an epoch: logout, delete. A newer one, from a login that was told before,
    /// goes on.
    pub(crate) fn leave(&mut self, account: AccountId, epoch: u64) {
        if self.slots.get(&account).is_none_or(|slot| slot.seat.epoch <= epoch) {
            self.close(account);
            let ended = self.ended.entry(account).or_default();
            *ended = epoch.max(*ended);
        }
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

    /// From which address an account was last heard in its session, if it was since the start.
    pub(crate) fn heard_at(&self, account: AccountId) -> Option<IpAddr> {
        Some(self.slots.get(&account)?.address?.ip().to_canonical())
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
            let is_new = hello.counter > slot.counter;
            #[cfg(any(test, feature = "simulation"))]
            let is_new = is_new || self.planted.counter_reset;
            if !is_new {
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
        #[cfg(any(test, feature = "simulation"))]
        if self.planted.forgets_versions {
            return None;
        }
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

    /// Who came online for a watcher after a version, one page of them. Older ones are forgotten: the watcher has them.
    pub(crate) fn arrivals(&mut self, watcher: AccountId, after_version: u64) -> Page {
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
