//! Our own card: renewed by asking the registry for ourselves, long before it expires.
//!
//! A peer whom we meet for the first time takes only a card that has not expired, and sessions outlive
//! cards by far.

use registryd_proto::{Card, Reply, Request, Signed};

use super::{Core, call::Purpose, input::CallFailure};

/// How soon a fresh card is asked for again when the registry did not give one.
const CARD_RETRY_MS: u64 = 10 * 60 * 1000;

impl Core {
    /// Asks for a fresh card when it is time.
    pub(super) fn tick_card(&mut self) {
        let now_ms = self.now.mono_ms;
        if self.session.card_ms.is_some_and(|at| at <= now_ms) {
            self.session.card_ms = Some(now_ms + CARD_RETRY_MS);
            if let Some(profile) = self.profile.as_ref().filter(|_| self.session.is_online()) {
                let request = Request::Search { username: profile.username.clone() };
                self.call(Purpose::OwnCard, request);
            }
        }
    }

    /// The reply to a search for ourselves.
    pub(super) fn own_card_answered(&mut self, result: Result<Reply, CallFailure>) {
        let Ok(Reply::User(view)) = result else { return };
        let Some(card) = self.own_card(&view.card) else { return };
        let Some(mut profile) = self.profile.clone() else { return };
        if card.serial >= profile.serial {
            self.renew_card_before(&card);
            profile.serial = card.serial;
            profile.card = view.card;
            self.put_profile(profile);
        }
    }

    /// Opens a card, if it is ours with this peer key.
    pub(super) fn own_card(&self, signed: &Signed<Card>) -> Option<Card> {
        let profile = self.profile.as_ref()?;
        let card = self.open_card(signed)?;
        let key = self.keys.peer.public();
        (card.username == profile.username && card.binding.peer_key == key).then_some(card)
    }

    /// Plans the next renewal: at about half of the time that the card has left.
    pub(super) fn renew_card_before(&mut self, card: &Card) {
        let left_ms = card.expires_ms.saturating_sub(self.registry_time_ms());
        let wait_ms = self.jitter(left_ms / 2).max(CARD_RETRY_MS);
        self.session.card_ms = Some(self.now.mono_ms.saturating_add(wait_ms));
    }
}
