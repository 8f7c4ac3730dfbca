//! What authors are told.

use p2pchat_history::{Conversation, Count, Outcome, Reading, Record, Seen, State};

use crate::build::{Run, delivered, den, direct, message, queued};

fn ended(id: &str) -> Seen {
    Seen::Delivered { conversation: direct(), id: id.into() }
}

#[test]
fn a_state_may_not_be_taken_back() {
    let mut run = Run::new();
    run.sent("ann", &direct(), "m", delivered(1));
    let mut clean = run.clone();
    run.sent("ann", &direct(), "m", queued(1, 1)).finds("backwards: message m of ann");
    clean.sent("ann", &direct(), "m", delivered(1)).is_clean();
}

#[test]
fn a_call_that_began_before_the_end_was_told_may_still_say_queued() {
    let mut run = Run::new();
    let early = run.call("ann", &direct(), "m");
    run.sent("ann", &direct(), "m", delivered(1)).told(early, queued(0, 1)).is_clean();
}

#[test]
fn a_final_state_may_not_change() {
    let mut run = Run::new();
    run.sent("ann", &direct(), "m", Outcome::Expired);
    let mut clean = run.clone();
    run.looked("ann", "m", State::Delivered).finds("backwards: message m of ann");
    clean.looked("ann", "m", State::Expired).is_clean();
}

#[test]
fn the_outbox_may_not_take_back_what_a_call_was_told() {
    let mut run = Run::new();
    run.sent("ann", &direct(), "m", delivered(1));
    run.looked("ann", "m", State::Queued).finds("backwards");

    let mut clean = Run::new();
    let since_ms = clean.now();
    clean.sent("ann", &direct(), "m", delivered(1));
    let (at_ms, who, to) = (clean.now(), "ann".to_owned(), direct());
    let (id, state) = ("m".to_owned(), State::Queued);
    clean.push(Record::Looked { since_ms, at_ms, who, to, id, state }).is_clean();
}

#[test]
fn the_event_log_may_not_tell_another_end_than_a_call() {
    let mut run = Run::new();
    run.sent("ann", &direct(), "m", delivered(1));
    let mut clean = run.clone();
    let failed = Seen::Failed { conversation: direct(), id: "m".into(), code: "rejected".into() };
    run.saw("ann", Reading::Final, 1, failed).finds("backwards");
    clean.saw("ann", Reading::Final, 1, ended("m")).is_clean();
}

#[test]
fn the_end_of_a_message_is_told_once() {
    let mut run = Run::new();
    run.sent("ann", &direct(), "m", delivered(1)).saw("ann", Reading::Final, 1, ended("m"));
    let mut clean = run.clone();
    run.saw("ann", Reading::Final, 2, ended("m")).finds("told again");
    clean.sent("ann", &direct(), "m2", delivered(1));
    clean.saw("ann", Reading::Final, 2, ended("m2")).is_clean();
}

#[test]
fn a_count_may_not_shrink() {
    let mut run = Run::new();
    run.sent("ann", &den(), "m", queued(1, 2));
    let mut clean = run.clone();
    run.sent("ann", &den(), "m", queued(0, 2)).finds("backwards: message m of ann");
    clean.sent("ann", &den(), "m", queued(2, 2)).is_clean();
}

#[test]
fn a_call_is_told_its_outcome_once() {
    let mut run = Run::new();
    let op = run.call("ann", &direct(), "m");
    run.told(op, queued(0, 1)).is_clean();
    run.told(op, queued(0, 1)).finds("answered twice: call 1");
}

#[test]
fn an_outcome_needs_a_call_and_calls_have_numbers_of_their_own() {
    let mut run = Run::new();
    run.told(7, queued(0, 1)).finds("no such call: 7");

    let mut run = Run::new();
    run.call("ann", &direct(), "m");
    run.is_clean();
    let first = run.records.last().expect("the call").clone();
    run.push(first).finds("no such call: 1");
}

#[test]
fn k_is_no_more_than_have_it() {
    let history = |k| {
        let mut run = Run::new();
        let hears = [message("ann", &den(), "m")];
        run.sent("ann", &den(), "m", queued(k, 2));
        // Lost to cem, but ann is not up in the end, so that nothing is owed to cem.
        run.end(&[("bob", &hears[..])]).stayed("cem", false);
        run
    };
    let of = |k| {
        let all = history(k).check();
        all.iter().map(ToString::to_string).filter(|v| v.starts_with("false count")).count()
    };
    assert_eq!((of(2), of(1)), (1, 0));
}

#[test]
fn who_is_away_in_the_end_may_have_it() {
    let mut run = Run::new();
    let hears = [message("ann", &den(), "m")];
    run.sent("ann", &den(), "m", queued(2, 2)).end(&[("ann", &[]), ("bob", &hears)]).is_clean();
}

#[test]
fn n_is_the_number_of_recipients() {
    let mut run = Run::new();
    let mut clean = run.clone();
    run.sent("ann", &den(), "m", queued(0, 3)).finds("false total: message m of ann");
    clean.sent("ann", &den(), "m", queued(0, 2)).is_clean();

    let mut run = Run::new();
    run.sent("ann", &direct(), "m", queued(0, 2)).finds("false total");
}

#[test]
fn n_of_a_known_epoch_is_exact() {
    let told = |n| {
        let mut run = Run::new();
        run.epoch(4, &["ann", "bob"]);
        let op = run.call("ann", &den(), "m");
        let (at_ms, outcome) = (run.now(), Outcome::Queued(Count { k: 0, n }));
        run.push(Record::Told { at_ms, op, outcome, epoch: Some(4) });
        run
    };
    told(1).is_clean();
    told(2).finds("false total");
}

#[test]
fn a_room_needs_members_and_its_epochs_grow() {
    let mut run = Run::new();
    run.call("ann", &Conversation::room("attic"), "m");
    run.finds("no members: the history tells nothing of who is in the room attic");

    let mut run = Run::new();
    run.epoch(4, &["ann"]).is_clean();
    run.epoch(4, &["ann", "bob"]).finds("epochs go back: the room den has epoch 4");
}
