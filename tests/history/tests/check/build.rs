//! Histories in short words. `ann`, `bob` and `cem` are in the room `den` from epoch 3 on.

use p2pchat_history::{
    Body, Conversation, Count, History, Outcome, Reading, Record, Seen, State, Violation, Wait,
    check,
};

/// A history in the making; each step is a millisecond.
#[derive(Debug, Default, Clone)]
pub(crate) struct Run {
    pub(crate) records: Vec<Record>,
    now: u64,
    op: u64,
}

pub(crate) fn direct() -> Conversation {
    Conversation::between("bob", "ann")
}

pub(crate) fn den() -> Conversation {
    Conversation::room("den")
}

pub(crate) fn queued(k: u32, n: u32) -> Outcome {
    Outcome::Queued(Count { k, n })
}

pub(crate) fn delivered(n: u32) -> Outcome {
    Outcome::Delivered(Count { k: n, n })
}

pub(crate) fn message(from: &str, conversation: &Conversation, id: &str) -> Seen {
    Seen::Message {
        from: from.into(),
        conversation: conversation.clone(),
        id: id.into(),
        body: Body::of(id),
    }
}

impl Run {
    /// With the room.
    pub(crate) fn new() -> Self {
        let mut run = Self::default();
        run.epoch(1, &["ann"]).epoch(2, &["ann", "bob"]).epoch(3, &["ann", "bob", "cem"]);
        run
    }

    pub(crate) fn now(&mut self) -> u64 {
        self.now += 1;
        self.now
    }

    pub(crate) fn push(&mut self, record: Record) -> &mut Self {
        self.records.push(record);
        self
    }

    pub(crate) fn epoch(&mut self, epoch: u64, members: &[&str]) -> &mut Self {
        let members = members.iter().map(|&m| m.to_owned()).collect();
        let (at_ms, room) = (self.now(), "den".to_owned());
        self.push(Record::Epoch { at_ms, room, epoch, members, history_for_all: false })
    }

    /// A call; its text is its id.
    pub(crate) fn call(&mut self, who: &str, to: &Conversation, id: &str) -> u64 {
        self.call_with(who, to, id, id)
    }

    pub(crate) fn call_with(&mut self, who: &str, to: &Conversation, id: &str, text: &str) -> u64 {
        self.op += 1;
        let (at_ms, op) = (self.now(), self.op);
        self.push(Record::Invoked {
            at_ms,
            op,
            who: who.into(),
            to: to.clone(),
            id: id.into(),
            body: Body::of(text),
            wait: Wait::Delivered,
            epoch_at_least: matches!(to, Conversation::Room(_)).then_some(3),
        });
        op
    }

    pub(crate) fn told(&mut self, op: u64, outcome: Outcome) -> &mut Self {
        let at_ms = self.now();
        self.push(Record::Told { at_ms, op, outcome, epoch: None })
    }

    /// A call and its answer.
    pub(crate) fn sent(
        &mut self,
        who: &str,
        to: &Conversation,
        id: &str,
        outcome: Outcome,
    ) -> &mut Self {
        let op = self.call(who, to, id);
        self.told(op, outcome)
    }

    pub(crate) fn looked(&mut self, who: &str, id: &str, state: State) -> &mut Self {
        let (since_ms, at_ms) = (self.now(), self.now());
        let (who, to, id) = (who.to_owned(), direct(), id.to_owned());
        self.push(Record::Looked { since_ms, at_ms, who, to, id, state })
    }

    pub(crate) fn saw(&mut self, who: &str, reading: Reading, n: u64, what: Seen) -> &mut Self {
        let (at_ms, who) = (self.now(), who.to_owned());
        self.push(Record::Saw { at_ms, who, reading, n, what })
    }

    /// Healed, and all of these are up; each is shown these messages.
    pub(crate) fn end(&mut self, readers: &[(&str, &[Seen])]) -> &mut Self {
        let at_ms = self.now();
        self.push(Record::Healed { at_ms });
        for (who, events) in readers {
            self.stayed(who, false);
            for (n, what) in (1..).zip(events.iter()) {
                self.saw(who, Reading::Final, n, what.clone());
            }
        }
        self
    }

    pub(crate) fn stayed(&mut self, who: &str, holdings_read: bool) -> &mut Self {
        self.push(Record::Stayed { who: who.into(), holdings_read, events_from: 1 })
    }

    pub(crate) fn history(&self) -> History {
        self.records.iter().cloned().collect()
    }

    pub(crate) fn check(&self) -> Vec<Violation> {
        check(&self.history())
    }

    #[track_caller]
    pub(crate) fn is_clean(&self) {
        assert_eq!(self.check(), []);
    }

    /// The one violation.
    #[track_caller]
    pub(crate) fn finds(&self, start: &str) {
        let found: Vec<String> = self.check().iter().map(Violation::to_string).collect();
        assert!(found.len() == 1 && found[0].starts_with(start), "{start}: {found:#?}");
    }
}
