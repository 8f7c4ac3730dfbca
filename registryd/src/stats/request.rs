//! Requests by verb and by what was answered.

use std::time::Instant;

use registryd_proto::{Code, Request};
use serde::Serialize;

use super::{Counter, Durations, Histogram};

/// What was asked: a verb of the protocol, or nothing that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verb {
    CreateAccount,
    Login,
    Resume,
    Logout,
    Search,
    Watch,
    Sync,
    CreateRoom,
    JoinRoom,
    LeaveRoom,
    ListRooms,
    RoomMembers,
    Invite,
    Kick,
    SetRole,
    DeleteRoom,
    ChangePassword,
    DeleteAccount,
    Unreadable,
}

impl Verb {
    /// All, in the order of the numbers.
    pub(crate) const ALL: [Verb; 19] = [
        Verb::CreateAccount,
        Verb::Login,
        Verb::Resume,
        Verb::Logout,
        Verb::Search,
        Verb::Watch,
        Verb::Sync,
        Verb::CreateRoom,
        Verb::JoinRoom,
        Verb::LeaveRoom,
        Verb::ListRooms,
        Verb::RoomMembers,
        Verb::Invite,
        Verb::Kick,
        Verb::SetRole,
        Verb::DeleteRoom,
        Verb::ChangePassword,
        Verb::DeleteAccount,
        Verb::Unreadable,
    ];
}

impl From<&Request> for Verb {
    fn from(request: &Request) -> Self {
        match request {
            Request::CreateAccount { .. } => Self::CreateAccount,
            Request::Login { .. } => Self::Login,
            Request::Resume { .. } => Self::Resume,
            Request::Logout => Self::Logout,
            Request::Search { .. } => Self::Search,
            Request::Watch { .. } => Self::Watch,
            Request::Sync { .. } => Self::Sync,
            Request::CreateRoom { .. } => Self::CreateRoom,
            Request::JoinRoom { .. } => Self::JoinRoom,
            Request::LeaveRoom { .. } => Self::LeaveRoom,
            Request::ListRooms => Self::ListRooms,
            Request::RoomMembers { .. } => Self::RoomMembers,
            Request::Invite { .. } => Self::Invite,
            Request::Kick { .. } => Self::Kick,
            Request::SetRole { .. } => Self::SetRole,
            Request::DeleteRoom { .. } => Self::DeleteRoom,
            Request::ChangePassword { .. } => Self::ChangePassword,
            Request::DeleteAccount { .. } => Self::DeleteAccount,
        }
    }
}

/// The word of a verb, a code or another plain enum, as in JSON.
pub(crate) fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => "unknown".to_owned(),
    }
}

/// Done, and each code.
const RESULTS: usize = 1 + Code::ALL.len();

#[derive(Debug)]
struct OfVerb {
    results: [Counter; RESULTS],
    duration: Durations,
}

/// Requests by verb.
#[derive(Debug)]
pub(crate) struct RequestStats([OfVerb; Verb::ALL.len()]);

impl Default for RequestStats {
    fn default() -> Self {
        let of_verb = |_| OfVerb {
            results: [const { Counter::new() }; RESULTS],
            duration: Histogram::of_durations(),
        };
        Self(std::array::from_fn(of_verb))
    }
}

/// What was answered to one verb.
pub(super) struct Told<'a> {
    pub(super) verb: Verb,
    /// `None`: done.
    pub(super) results: Vec<(Option<Code>, u64)>,
    pub(super) duration: &'a Durations,
}

impl RequestStats {
    /// A request that began at `start` is answered; `None`: done.
    pub(crate) fn answered(&self, verb: Verb, code: Option<Code>, start: Instant) {
        let of_verb = &self.0[verb as usize];
        of_verb.results[place(code)].count();
        of_verb.duration.observe_since(start);
    }

    /// Every verb with every result that was ever answered to it.
    pub(super) fn told(&self) -> impl Iterator<Item = Told<'_>> {
        self.0.iter().zip(Verb::ALL).map(|(of_verb, verb)| {
            let codes = std::iter::once(None).chain(Code::ALL.map(Some));
            let counted = codes.zip(of_verb.results.iter().map(Counter::get));
            let results = counted.filter(|(_, count)| *count > 0).collect();
            Told { verb, results, duration: &of_verb.duration }
        })
    }
}

fn place(code: Option<Code>) -> usize {
    // Every code is in the list: a test holds it.
    code.and_then(|code| Code::ALL.iter().position(|c| *c == code)).map_or(0, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_is_at_its_number_and_every_code_has_a_place_of_its_own() {
        for (at, verb) in Verb::ALL.iter().enumerate() {
            assert_eq!(*verb as usize, at, "{verb:?}");
        }
        let mut places: Vec<usize> = Code::ALL.iter().map(|c| place(Some(*c))).collect();
        places.push(place(None));
        places.sort_unstable();
        assert_eq!(places, (0..RESULTS).collect::<Vec<_>>());
    }

    #[test]
    fn answers_are_counted_by_verb_and_code() {
        let stats = RequestStats::default();
        let start = Instant::now();
        stats.answered(Verb::Search, None, start);
        stats.answered(Verb::Search, None, start);
        stats.answered(Verb::Search, Some(Code::NotFound), start);
        let told: Vec<_> = stats.told().filter(|t| !t.results.is_empty()).collect();
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].verb, Verb::Search);
        assert_eq!(told[0].results, [(None, 2), (Some(Code::NotFound), 1)]);
    }

    #[test]
    fn words_are_those_of_the_protocol() {
        assert_eq!(word(&Verb::CreateAccount), "create_account");
        assert_eq!(word(&Code::RateLimited), "rate_limited");
    }
}
