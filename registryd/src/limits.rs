//! How often anybody may ask: per source address, per account, and both for passwords.
//!
//! Coming back by key is never limited by wrong passwords, and a password from the device that is enrolled
//! is counted apart from all others: a stranger who guesses locks nobody out, though from the same address.
//! The defaults let a full room enrol from one address at once: 200 times create-account, login and join.
//!
//! Guesses at one account are bounded over all sources as well: whoever has a thousand addresses gets no more
//! of them than 350,000 a day, which is what twelve addresses get. What it costs: while somebody guesses from
//! more than those, no *new* device of that account gets in by password. Fewer keep nobody out. The devices
//! that are enrolled get in whatever happens: they come back by key, and their password is counted apart, so
//! that the owner can change it meanwhile. To make an account is no guess at one, and not counted as such.
//!
//! Memory is bounded: keys whose time has passed are dropped by [`Limits::forget_idle`].

use std::{
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use governor::{
    DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
};
use registryd_proto::Username;
use serde::Deserialize;

use crate::store::AccountId;

/// Too often; try again later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many requests")]
pub(crate) struct Limited {
    /// When the next one is let through.
    pub retry_after: Duration,
}

/// A burst, and how fast it comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// So many at once.
    pub burst: NonZeroU32,
    /// One more after so many milliseconds.
    pub every_ms: NonZeroU32,
}

const fn rate(burst: u32, every_ms: u32) -> Rate {
    match (NonZeroU32::new(burst), NonZeroU32::new(every_ms)) {
        (Some(burst), Some(every_ms)) => Rate { burst, every_ms },
        _ => panic!("the default rates are not zero"),
    }
}

/// The table `[limits]` of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rates {
    /// Passwords for one account from one source, and those from its enrolled key.
    pub passwords: Rate,
    /// Passwords from one source, over all accounts.
    pub passwords_per_source: Rate,
    /// Passwords for one account, over all sources; not those from its enrolled key.
    pub passwords_per_account: Rate,
    /// Searches and watches of one account.
    pub searches: Rate,
    /// Other requests of one account.
    pub requests: Rate,
    /// Changes of rooms by one account: each stays in the room's log, at every member, for ever.
    pub room_changes: Rate,
    /// Logins that give an account other keys: each room that it is in has a record of it, for ever.
    pub rebinds: Rate,
    /// Requests of keys that are not enrolled, from one source.
    pub strangers: Rate,
    /// Connections from one source: each costs a handshake, which is more than most requests.
    pub connections: Rate,
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            passwords: rate(20, 3_000),
            passwords_per_source: rate(700, 200),
            passwords_per_account: rate(2_000, 250),
            searches: rate(300, 50),
            requests: rate(1_000, 10),
            room_changes: rate(600, 2_000),
            rebinds: rate(20, 600_000),
            strangers: rate(1_000, 50),
            connections: rate(1_000, 10),
        }
    }
}

/// A source: an IPv4 address, or the /64 of an IPv6 address, which is what one customer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Source(IpAddr);

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(v6) => {
                let network = u128::from(v6) & !u128::from(u64::MAX);
                Self(IpAddr::V6(Ipv6Addr::from(network)))
            }
            v4 => Self(v4),
        }
    }
}

/// The limits; `None` are none.
#[derive(Debug)]
pub(crate) struct Limits(Option<RwLock<Arc<Limiters>>>);

#[derive(Debug)]
struct Limiters {
    rates: Rates,
    passwords: Limiter<(Source, Username)>,
    own_passwords: Limiter<AccountId>,
    passwords_per_source: Limiter<Source>,
    passwords_per_account: Limiter<Username>,
    searches: Limiter<AccountId>,
    requests: Limiter<AccountId>,
    room_changes: Limiter<AccountId>,
    rebinds: Limiter<AccountId>,
    strangers: Limiter<Source>,
    connections: Limiter<Source>,
    clock: DefaultClock,
}

impl Limits {
    /// Limiters with these rates.
    pub(crate) fn new(rates: &Rates) -> Self {
        Self(Some(RwLock::new(Arc::new(Limiters::new(rates)))))
    }

    /// Other rates from here on. What was counted under a rate that stays goes on; under another one it
    /// begins anew.
    pub(crate) fn set(&self, rates: &Rates) {
        let Some(limiters) = &self.0 else { return };
        let mut limiters = limiters.write().unwrap_or_else(PoisonError::into_inner);
        *limiters = Arc::new(limiters.with(rates));
    }

    fn limiters(&self) -> Option<Arc<Limiters>> {
        let limiters = self.0.as_ref()?;
        Some(limiters.read().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// Nobody is limited: the limits count in real time, which a simulator has not.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn off() -> Self {
        Self(None)
    }

    /// Before a password is checked, whether the account exists or not.
    ///
    /// # Errors
    /// [`Limited`].
    pub(crate) fn password(&self, source: Source, username: &Username) -> Result<(), Limited> {
        self.new_password(source, username)?;
        self.check(|l| &l.passwords_per_account, username)
    }

    /// Before a password is hashed for an account that is to be made.
    ///
    /// # Errors
    /// [`Limited`].
    pub(crate) fn new_password(&self, source: Source, username: &Username) -> Result<(), Limited> {
        // The source first: one that is over its limit must not fill memory with names that it invents.
        self.check(|l| &l.passwords_per_source, &source)?;
        self.check(|l| &l.passwords, &(source, username.clone()))
    }

    /// Before the password of an account is checked that comes from its enrolled key.
    ///
    /// # Errors
    /// [`Limited`].
    pub(crate) fn own_password(&self, account: AccountId) -> Result<(), Limited> {
        self.check(|l| &l.own_passwords, &account)
    }

    /// Before a search or watch.
    ///
    /// # Errors
    /// [`Limited`].
    pub(crate) fn search(&self, account: AccountId) -> Result<(), Limited> {
        self.check(|l| &l.searches, &account)
    }

    /// Before any request of an enrolled key.
    ///
    /// # Errors
    /// [`Limited`].
    pub(crate) fn request(&self, account: AccountId) -> Result<(), Limited> {
        self.check(|l| &l.requests, &account)
    }

    /// Before a change of a room: create, join, leave, moderation.
    ///
    /// # Errors
    /// [`Limited`].
    pub(crate) fn room_change(&self, account: AccountId) -> Result<(), Limited> {
        self.check(|l| &l.room_changes, &account)
    }

    /// Before a login that gives an account other keys than it has.
    ///
    /// # Errors
    /// [`Limited`].
    pub(crate) fn rebind(&self, account: AccountId) -> Result<(), Limited> {
        self.check(|l| &l.rebinds, &account)
    }

    /// Before any request of a key that is not enrolled.
    ///
    /// # Errors
    /// [`Limited`].
    pub(crate) fn stranger(&self, source: Source) -> Result<(), Limited> {
        self.check(|l| &l.strangers, &source)
    }

    /// Before the handshake of a connection.
    ///
    /// # Errors
    /// [`Limited`].
    pub(crate) fn connection(&self, source: Source) -> Result<(), Limited> {
        self.check(|l| &l.connections, &source)
    }

    /// Drops the keys that are back at their full burst. Call about once a minute.
    pub(crate) fn forget_idle(&self) {
        let Some(limiters) = self.limiters() else { return };
        limiters.passwords.retain_recent();
        limiters.own_passwords.retain_recent();
        limiters.passwords_per_source.retain_recent();
        limiters.passwords_per_account.retain_recent();
        limiters.searches.retain_recent();
        limiters.requests.retain_recent();
        limiters.room_changes.retain_recent();
        limiters.rebinds.retain_recent();
        limiters.strangers.retain_recent();
        limiters.connections.retain_recent();
    }

    fn check<K: Hash + Eq + Clone>(
        &self,
        limiter: impl FnOnce(&Limiters) -> &DefaultKeyedRateLimiter<K>,
        key: &K,
    ) -> Result<(), Limited> {
        let Some(limiters) = self.limiters() else { return Ok(()) };
        limiter(&limiters)
            .check_key(key)
            .map_err(|until| Limited { retry_after: until.wait_time_from(limiters.clock.now()) })
    }
}

impl Limiters {
    fn new(rates: &Rates) -> Self {
        Self {
            rates: *rates,
            passwords: keyed(rates.passwords),
            own_passwords: keyed(rates.passwords),
            passwords_per_source: keyed(rates.passwords_per_source),
            passwords_per_account: keyed(rates.passwords_per_account),
            searches: keyed(rates.searches),
            requests: keyed(rates.requests),
            room_changes: keyed(rates.room_changes),
            rebinds: keyed(rates.rebinds),
            strangers: keyed(rates.strangers),
            connections: keyed(rates.connections),
            clock: DefaultClock::default(),
        }
    }

    /// The same where a rate is the same.
    fn with(&self, rates: &Rates) -> Self {
        let old = &self.rates;
        Self {
            rates: *rates,
            passwords: kept(&self.passwords, old.passwords, rates.passwords),
            own_passwords: kept(&self.own_passwords, old.passwords, rates.passwords),
            passwords_per_source: kept(
                &self.passwords_per_source,
                old.passwords_per_source,
                rates.passwords_per_source,
            ),
            passwords_per_account: kept(
                &self.passwords_per_account,
                old.passwords_per_account,
                rates.passwords_per_account,
            ),
            searches: kept(&self.searches, old.searches, rates.searches),
            requests: kept(&self.requests, old.requests, rates.requests),
            room_changes: kept(&self.room_changes, old.room_changes, rates.room_changes),
            rebinds: kept(&self.rebinds, old.rebinds, rates.rebinds),
            strangers: kept(&self.strangers, old.strangers, rates.strangers),
            connections: kept(&self.connections, old.connections, rates.connections),
            clock: DefaultClock::default(),
        }
    }
}

/// A limiter that outlives a change of others.
type Limiter<K> = Arc<DefaultKeyedRateLimiter<K>>;

fn keyed<K: Hash + Eq + Clone>(rate: Rate) -> Limiter<K> {
    Arc::new(RateLimiter::keyed(quota(rate)))
}

fn kept<K: Hash + Eq + Clone>(limiter: &Limiter<K>, old: Rate, new: Rate) -> Limiter<K> {
    if old == new { limiter.clone() } else { keyed(new) }
}

fn quota(rate: Rate) -> Quota {
    let every = Duration::from_millis(u64::from(rate.every_ms.get()));
    // `None` only for a period of zero, which the type excludes.
    Quota::with_period(every).unwrap_or(Quota::per_second(rate.burst)).allow_burst(rate.burst)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Username {
        text.parse().expect("name")
    }

    #[test]
    fn guesses_at_one_account_are_limited_and_harm_no_other_source() {
        let limits = Limits::new(&Rates::default());
        let attacker = Source::from(IpAddr::from([203, 0, 113, 1]));
        let owner = Source::from(IpAddr::from([192, 0, 2, 1]));
        let passed = (0..1000).filter(|_| limits.password(attacker, &name("bob")).is_ok()).count();
        assert!((20..25).contains(&passed), "{passed}");
        let limited = limits.password(attacker, &name("bob")).expect_err("limited");
        assert!(limited.retry_after <= Duration::from_secs(3));
        assert_eq!(limits.password(owner, &name("bob")), Ok(()));
        let other = Source::from(IpAddr::from([203, 0, 113, 2]));
        assert_eq!(limits.password(other, &name("bob")), Ok(()));
    }

    #[test]
    fn guesses_from_everywhere_are_limited_and_the_enrolled_key_is_not() {
        let limits = Limits::new(&Rates::default());
        let from = |n: u16| Source::from(IpAddr::from([10, 0, (n >> 8) as u8, n as u8]));
        let passed = (0..5_000).filter(|n| limits.password(from(*n), &name("bob")).is_ok()).count();
        assert!((2_000..2_100).contains(&passed), "{passed}");
        assert_eq!(limits.own_password(AccountId(7)), Ok(()));
        assert_eq!(limits.password(from(1), &name("ann")), Ok(()), "another account");
    }

    #[test]
    fn a_few_sources_lock_no_account_for_others() {
        let Rates { passwords, passwords_per_account: all, .. } = Rates::default();
        assert!(all.burst.get() >= 10 * passwords.burst.get());
        assert!(all.every_ms.get() <= passwords.every_ms.get() / 10);
    }

    #[test]
    fn names_that_are_asked_for_anew_are_not_guessed_at() {
        let none = Rates { passwords_per_account: rate(1, 60_000), ..Rates::default() };
        let limits = Limits::new(&none);
        let source = |n: u8| Source::from(IpAddr::from([192, 0, 2, n]));
        for n in 0..5 {
            assert_eq!(limits.new_password(source(n), &name("bob")), Ok(()));
        }
        assert_eq!(limits.password(source(9), &name("bob")), Ok(()));
        assert!(limits.password(source(10), &name("bob")).is_err());
    }

    #[test]
    fn another_rate_holds_at_once_and_what_stays_is_counted_on() {
        let limits = Limits::new(&Rates { strangers: rate(2, 60_000), ..Rates::default() });
        let source = Source::from(IpAddr::from([203, 0, 113, 1]));
        for _ in 0..2 {
            limits.stranger(source).expect("within the burst");
        }
        limits.set(&Rates { strangers: rate(2, 60_000), searches: rate(1, 1), ..Rates::default() });
        assert!(limits.stranger(source).is_err(), "a change of others gives nothing back");
        limits.set(&Rates { strangers: rate(3, 60_000), ..Rates::default() });
        assert!(limits.stranger(source).is_ok());
    }

    #[test]
    fn a_full_room_behind_one_address_gets_in() {
        let limits = Limits::new(&Rates::default());
        let office = Source::from(IpAddr::from([192, 0, 2, 1]));
        for member in 0..200 {
            let name = name(&format!("member{member}"));
            for step in ["create-account", "login", "join-room"] {
                assert_eq!(limits.stranger(office), Ok(()), "{name}: {step}");
                assert_eq!(limits.password(office, &name), Ok(()), "{name}: {step}");
            }
        }
    }

    #[test]
    fn one_ipv6_network_is_one_source() {
        let source = |text: &str| Source::from(text.parse::<IpAddr>().expect("address"));
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:1"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
    }

    #[test]
    fn idle_keys_are_forgotten() {
        let limits = Limits::new(&Rates { strangers: rate(5, 1), ..Rates::default() });
        for last in 0..200 {
            limits.stranger(Source::from(IpAddr::from([192, 0, 2, last]))).expect("first");
        }
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        let strangers = &limits.limiters().expect("on").strangers;
        while !strangers.is_empty() && std::time::Instant::now() < deadline {
            limits.forget_idle();
        }
        assert!(strangers.is_empty());
    }
}
