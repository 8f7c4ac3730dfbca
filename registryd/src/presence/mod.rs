//! Who is online, by HELLO alone. Pure: time and datagrams come in, answers go out; no socket, no clock,
//! no key. Memory only: a restart begins with every session unknown, and the boot challenge brings back
//! those that are alive.
//!
//! A HELLO, an expiry and a look-up take constant time and no memory: sessions are slots of a slab, found by
//! account in a table (`index`), and linked into a wheel for the end of their time. A session costs 132
//! bytes. The interval grows with the number online (`pace`). A peer counts as offline after three times
//! the largest of the interval that it confirmed and the last two offered to it.
//!
//! Time comes from a clock that stands still whenever the registry does (`clock`): it takes nobody's patience
//! while no HELLO could be heard.
//!
//! Invariants: a HELLO with another boot id, another epoch, or a counter not above the last one changes
//! nothing. The counter of what the registry sends only grows within a boot, over all sessions.

mod ended;
mod index;
mod pace;
mod slab;
mod slot;
mod watch;
mod wheel;

#[cfg(test)]
mod memory;
#[cfg(test)]
mod tests;

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use registryd_proto::hello::{Answer, Clear, Hello};

pub(crate) use pace::Pace;
pub(crate) use slot::{Secret, SessionKeys};
pub(crate) use watch::{Arrival, Page, TooManyWatches};

use self::{
    ended::Ended,
    index::SlotIndex,
    pace::{INTERVAL_MS_MAX, Interval},
    slab::{Slab, SlotId},
    slot::{MISSED_INTERVALS, Slot, Turn},
    watch::Watches,
    wheel::Wheel,
};
#[cfg(any(test, feature = "simulation"))]
use crate::simulation::Planted;
use crate::store::AccountId;

/// Slots looked at before others get a turn: a millisecond or two.
const LOOKS_PER_TURN: usize = 8192;

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
        /// Since the last HELLO, but for what the registry stood still.
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outgoing {
    /// Where to.
    pub address: SocketAddr,
    /// What to seal.
    pub answer: Answer,
    /// What to seal it with.
    pub secret: Secret,
}

/// What is known of the session that a datagram names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// There is none of this epoch.
    Unknown,
    /// It has said this or more already: whatever the seal, nothing would come of it.
    Replayed,
    /// This opens it.
    Secret(Secret),
}

/// The state of all sessions.
#[derive(Debug)]
pub(crate) struct Presence {
    boot: u64,
    interval: Interval,
    grace_until_ms: u64,
    sent: u64,
    online: usize,
    slab: Slab,
    index: SlotIndex,
    ended: Ended,
    wheel: Wheel,
    watches: Watches,
    #[cfg(any(test, feature = "simulation"))]
    planted: Planted,
}

impl Presence {
    /// Begins a boot. `interval` is the one kept before the restart, `None` for the first start ever.
    pub(crate) fn new(boot: u64, pace: Pace, interval: Option<Duration>, now_ms: u64) -> Self {
        let before_ms = interval.map_or(0, |i| u32::try_from(i.as_millis()).unwrap_or(u32::MAX));
        // A peer of before that is answered takes the interval of now, and may say its next HELLO only then.
        let least_ms = if interval.is_some() { pace.interval_min_ms } else { 0 };
        let before_ms = before_ms.max(least_ms).min(INTERVAL_MS_MAX);
        let grace_until_ms = now_ms + u64::from(MISSED_INTERVALS * before_ms);
        Self {
            boot,
            interval: Interval::new(pace, before_ms, grace_until_ms),
            grace_until_ms,
            sent: 0,
            online: 0,
            slab: Slab::default(),
            index: SlotIndex::default(),
            ended: Ended::default(),
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
        self.interval.offered_ms
    }

    /// How many are online, as of the last [`tick`](Self::tick).
    pub(crate) fn online(&self) -> usize {
        self.online
    }

    /// How many sessions are listened for.
    pub(crate) fn sessions(&self) -> usize {
        self.index.len()
    }

    /// The interval that is on disk, or has to be before any HELLO is answered.
    pub(crate) fn kept_interval_ms(&self) -> u32 {
        self.interval.kept_ms
    }

    /// The interval that should be offered, if it is off by more than a tenth; see
    /// [`set_interval`](Self::set_interval). It does not shrink while the peers of before a restart are
    /// still coming back: few online says nothing then.
    pub(crate) fn wanted_interval_ms(&self, now_ms: u64) -> Option<u32> {
        self.interval.wanted_ms(self.online, now_ms)
    }

    /// The interval that should be on disk before another one is offered, if it is not; see
    /// [`keep_interval`](Self::keep_interval). Not below what a peer that is online may be using.
    pub(crate) fn wanted_kept_interval_ms(&self, now_ms: u64) -> Option<u32> {
        self.interval.wanted_kept_ms(self.online, now_ms)
    }

    /// Paces HELLO otherwise from here on; the interval follows as it always does.
    pub(crate) fn set_pace(&mut self, pace: Pace) {
        self.interval.pace = pace;
    }

    /// Whether watchers are to be told.
    pub(crate) fn has_arrived(&self) -> bool {
        self.watches.has_arrived()
    }

    /// Offers another interval from now on. One that is at least as long must be on disk.
    pub(crate) fn set_interval(&mut self, interval_ms: u32) {
        self.interval.offered_ms = interval_ms;
    }

    /// Another interval is on disk.
    pub(crate) fn keep_interval(&mut self, interval_ms: u32) {
        self.interval.kept_ms = interval_ms;
    }

    /// Listens for a session. One with the same epoch goes on as it is; a new epoch counts as offline
    /// until its first HELLO; an older one, or one that ended, came late from a race and is ignored.
    pub(crate) fn open(&mut self, seat: Seat) {
        if self.ended.covers(seat.account, seat.epoch) {
            return;
        }
        let Some(id) = self.index.get(seat.account) else {
            let id = self.slab.take();
            if self.index.insert(seat.account, id) {
                self.begin(id, &seat);
            } else {
                self.slab.give_back(id);
            }
            return;
        };
        let slot = &mut self.slab[id];
        if slot.epoch >= seat.epoch {
            slot.version = slot.version.max(seat.version);
            return;
        }
        if slot.turn == Turn::Counted {
            slot.turn = Turn::Uncounted;
            self.online -= 1;
        }
        self.begin(id, &seat);
    }

    fn begin(&mut self, id: SlotId, seat: &Seat) {
        let offer_ms = self.interval.offered_ms;
        self.slab[id].begin(seat.epoch, &seat.salt, seat.version, offer_ms);
    }

    /// Forgets sessions up to an epoch: logout, delete. A newer one, from a login that was told before,
    /// goes on.
    pub(crate) fn leave(&mut self, account: AccountId, epoch: u64) {
        if epoch == u64::MAX {
            self.watches.forget_user(account);
        }
        if self.slot(account).is_none_or(|slot| slot.epoch <= epoch) {
            self.watches.forget(account);
            self.close(account);
            self.ended.insert(account, epoch);
        }
    }

    fn close(&mut self, account: AccountId) {
        let Some(id) = self.index.remove(account) else { return };
        let slot = &mut self.slab[id];
        self.online -= usize::from(slot.turn == Turn::Counted);
        if slot.turn == Turn::Out {
            self.slab.give_back(id);
        } else {
            slot.wipe();
            slot.turn = Turn::Left;
        }
    }

    fn slot(&self, account: AccountId) -> Option<&Slot> {
        Some(&self.slab[self.index.get(account)?])
    }

    /// What opens a datagram, by what it shows in the clear. Forged, it costs no more than this look.
    pub(crate) fn look_up(&self, clear: &Clear) -> Lookup {
        let slot = self.slot(AccountId(clear.session)).filter(|s| s.epoch == clear.epoch);
        let Some(slot) = slot else { return Lookup::Unknown };
        let replayed = clear.boot == self.boot && clear.counter <= slot.counter;
        #[cfg(any(test, feature = "simulation"))]
        let replayed = replayed && !self.planted.counter_reset;
        if replayed { Lookup::Replayed } else { Lookup::Secret(slot.secret()) }
    }

    /// Keeps the keys of a session, which opened a datagram of its: they need not be derived again.
    pub(crate) fn learn(&mut self, account: AccountId, epoch: u64, keys: &SessionKeys) {
        let Some(id) = self.index.get(account) else { return };
        let slot = &mut self.slab[id];
        if slot.epoch == epoch {
            slot.learn(keys);
        }
    }

    /// From which address an account was last heard in its session, if it was since the start.
    pub(crate) fn heard_at(&self, account: AccountId) -> Option<IpAddr> {
        Some(self.slot(account)?.address()?.ip().to_canonical())
    }

    /// Takes a HELLO that opened under its session's key. `None`: say nothing.
    pub(crate) fn on_hello(
        &mut self,
        hello: &Hello,
        from: SocketAddr,
        now_ms: u64,
    ) -> Option<Outgoing> {
        let account = AccountId(hello.session);
        let id = self.index.get(account)?;
        let slot = &mut self.slab[id];
        if slot.epoch != hello.epoch {
            return None;
        }
        if hello.boot == self.boot {
            let is_new = hello.counter > slot.counter;
            #[cfg(any(test, feature = "simulation"))]
            let is_new = is_new || self.planted.counter_reset;
            if !is_new {
                return None;
            }
            let arrived = !slot.is_online(now_ms);
            slot.hear(hello, from, self.interval.offered_ms, now_ms);
            self.interval.note(slot.interval_ms());
            if slot.turn != Turn::Counted {
                self.count_in(id);
            }
            if arrived {
                self.watches.arrive(account);
            }
        }
        Some(self.say(id, account, from, hello.counter))
    }

    fn count_in(&mut self, id: SlotId) {
        self.online += 1;
        let slot = &mut self.slab[id];
        let was = std::mem::replace(&mut slot.turn, Turn::Counted);
        if was == Turn::Out {
            let deadline_ms = slot.deadline_ms();
            self.wheel.enter(&mut self.slab, id, deadline_ms);
        }
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
        let id = self.index.get(account)?;
        let slot = &mut self.slab[id];
        slot.version = slot.version.max(version);
        if !slot.is_online(now_ms) {
            return None;
        }
        let address = slot.address()?;
        Some(self.say(id, account, address, 0))
    }

    /// An account was told its version: answers say no older one, else its peer would ask again each time.
    pub(crate) fn see_version(&mut self, account: AccountId, version: u64) {
        if let Some(id) = self.index.get(account) {
            let slot = &mut self.slab[id];
            slot.version = slot.version.max(version);
        }
    }

    fn say(&mut self, id: SlotId, account: AccountId, address: SocketAddr, echo: u64) -> Outgoing {
        let slot = &self.slab[id];
        self.sent += 1;
        let answer = Answer {
            session: account.0,
            epoch: slot.epoch,
            boot: self.boot,
            counter: self.sent,
            echo,
            interval_ms: self.interval.offered_ms,
            version: slot.version,
        };
        Outgoing { address, answer, secret: slot.secret() }
    }

    /// Whether an account is online.
    pub(crate) fn status(&self, account: AccountId, now_ms: u64) -> Status {
        let Some(slot) = self.slot(account) else {
            return Status::Offline { last_hello_ms_ago: None };
        };
        match slot.last_hello_ms().map(|at| now_ms.saturating_sub(at)) {
            Some(ago) if slot.is_online(now_ms) => Status::Online { last_hello_ms_ago: ago },
            None if now_ms < self.grace_until_ms => {
                Status::Unknown { grace_ms: self.grace_until_ms - now_ms }
            }
            last_hello_ms_ago => Status::Offline { last_hello_ms_ago },
        }
    }

    /// Moves on: counts out those whose time is over. Call about once a second, and again while it says
    /// that there is more, once others had their turn.
    pub(crate) fn tick(&mut self, now_ms: u64) -> bool {
        for _ in 0..LOOKS_PER_TURN {
            let Some(id) = self.wheel.next_due(&self.slab, now_ms) else {
                self.interval.move_on(now_ms);
                self.ended.move_on(now_ms);
                return false;
            };
            self.come_out(id, now_ms);
        }
        true
    }

    fn come_out(&mut self, id: SlotId, now_ms: u64) {
        let slot = &mut self.slab[id];
        match slot.turn {
            Turn::Counted if slot.is_online(now_ms) => {
                self.interval.note(slot.interval_ms());
                let deadline_ms = slot.deadline_ms();
                self.wheel.enter(&mut self.slab, id, deadline_ms);
            }
            Turn::Counted => {
                slot.turn = Turn::Out;
                self.online -= 1;
            }
            Turn::Uncounted | Turn::Out => slot.turn = Turn::Out,
            Turn::Left => self.slab.give_back(id),
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

    /// Whether nothing is kept of anybody who waits.
    #[cfg(test)]
    fn watches_nobody(&self) -> bool {
        self.watches.is_empty()
    }

    /// Arrivals since the last call: raise the watchers' versions, and [`date`](Self::date_arrival) them.
    pub(crate) fn take_arrived(&mut self) -> Vec<Arrival> {
        self.watches.take_arrived()
    }

    /// No version could be raised for those taken last: they are taken again.
    pub(crate) fn put_arrived_back(&mut self) {
        self.watches.put_back();
    }

    /// Whether some were put back.
    pub(crate) fn has_untold(&self) -> bool {
        self.watches.is_untold()
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
