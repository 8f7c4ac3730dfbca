//! What readers are shown.

use p2pchat_history::{Body, Outcome, Reading, Record, Seen};

use crate::build::{Run, delivered, den, direct, message, queued};

const LIVE: Reading = Reading::Live(1);

fn restored(run: &mut Run, who: &str) {
    let (at_ms, who) = (run.now(), who.to_owned());
    run.push(Record::Restored { at_ms, who });
}

#[test]
fn nothing_is_shown_twice() {
    let mut run = Run::new();
    run.sent("ann", &direct(), "m", delivered(1)).sent("ann", &direct(), "m2", delivered(1));
    let mut clean = run.clone();
    let shown = |id| message("ann", &direct(), id);
    run.end(&[("bob", &[shown("m"), shown("m2"), shown("m")])]);
    run.finds("duplicated: bob was shown message m of ann");
    clean.end(&[("bob", &[shown("m"), shown("m2")])]).is_clean();
}

#[test]
fn what_may_have_happened_is_shown_once_at_most() {
    let mut run = Run::new();
    run.sent("ann", &direct(), "m", Outcome::Crashed);
    run.sent("ann", &direct(), "m", Outcome::TimedOut);
    let shown = message("ann", &direct(), "m");
    let (mut once, mut never) = (run.clone(), run.clone());
    run.end(&[("bob", &[shown.clone(), shown.clone()])]).finds("duplicated");
    once.end(&[("bob", &[shown])]).is_clean();
    never.end(&[("bob", &[])]).is_clean();
}

#[test]
fn the_same_id_to_another_conversation_is_another_message() {
    let mut run = Run::new();
    run.sent("ann", &direct(), "m", delivered(1)).sent("ann", &den(), "m", delivered(2));
    let in_den = message("ann", &den(), "m");
    let both = [message("ann", &direct(), "m"), in_den.clone()];
    run.end(&[("bob", &both), ("cem", &[in_den])]).is_clean();
}

#[test]
fn nothing_is_shown_that_nobody_sent() {
    let mut run = Run::new();
    run.sent("ann", &direct(), "m", delivered(1));
    let mut clean = run.clone();
    let shown = |id| message("ann", &direct(), id);
    run.end(&[("bob", &[shown("m"), shown("ghost")])]).finds("invented: bob was shown");
    clean.end(&[("bob", &[shown("m")])]).is_clean();
}

#[test]
fn the_end_of_what_nobody_sent_is_not_told() {
    let mut run = Run::new();
    let ended = Seen::Delivered { conversation: direct(), id: "ghost".into() };
    run.end(&[("ann", &[ended])]).finds("invented");
}

#[test]
fn a_text_is_shown_as_it_was_sent() {
    let mut run = Run::new();
    run.sent("ann", &direct(), "m", delivered(1));
    let mut clean = run.clone();
    let shown = |text| Seen::Message {
        from: "ann".into(),
        conversation: direct(),
        id: "m".into(),
        body: Body::of(text),
    };
    run.end(&[("bob", &[shown("n")])]).finds("altered: bob was shown message m of ann");
    clean.end(&[("bob", &[shown("m")])]).is_clean();
}

#[test]
fn the_text_of_a_refused_call_is_not_shown() {
    let mut run = Run::new();
    run.sent("ann", &direct(), "m", delivered(1));
    let other = run.call_with("ann", &direct(), "m", "another text");
    run.told(other, Outcome::Refused("conflict".into()));
    let mut clean = run.clone();
    let body = Body::of("another text");
    let (from, id) = ("ann".to_owned(), "m".to_owned());
    let wrong = Seen::Message { from, conversation: direct(), id, body };
    run.end(&[("bob", &[wrong])]).finds("altered");
    clean.end(&[("bob", &[message("ann", &direct(), "m")])]).is_clean();
}

#[test]
fn what_was_refused_is_not_shown() {
    let mut run = Run::new();
    run.sent("ann", &direct(), "m", Outcome::Refused("rate_limited".into()));
    let mut clean = run.clone();
    run.end(&[("bob", &[message("ann", &direct(), "m")])]).finds("refused and yet shown");
    clean.end(&[("bob", &[])]).is_clean();
}

#[test]
fn an_authors_order_is_kept() {
    let mut run = Run::new();
    run.sent("ann", &direct(), "m1", delivered(1)).sent("ann", &direct(), "m2", queued(0, 1));
    let mut clean = run.clone();
    let shown = |id| message("ann", &direct(), id);
    run.end(&[("bob", &[shown("m2"), shown("m1")])]);
    run.finds("out of order: bob was shown message m1 of ann");
    clean.end(&[("bob", &[shown("m1"), shown("m2")])]).is_clean();
}

#[test]
fn calls_at_the_same_time_have_one_order_for_all_but_any() {
    let mut run = Run::new();
    let (one, two) = (run.call("ann", &den(), "m1"), run.call("ann", &den(), "m2"));
    run.told(one, delivered(2)).told(two, delivered(2));
    let mut clean = run.clone();
    let shown = |id| message("ann", &den(), id);
    let (there, back) = ([shown("m1"), shown("m2")], [shown("m2"), shown("m1")]);
    run.end(&[("bob", &there), ("cem", &back)]).finds("two orders: cem was shown message m1");
    clean.end(&[("bob", &back), ("cem", &back)]).is_clean();
}

#[test]
fn what_was_repeated_after_a_crash_may_stand_in_both_places() {
    let mut run = Run::new();
    run.sent("ann", &direct(), "m1", Outcome::Crashed);
    run.sent("ann", &direct(), "m2", delivered(1)).sent("ann", &direct(), "m1", delivered(1));
    let mut back = run.clone();
    let shown = |id| message("ann", &direct(), id);
    run.end(&[("bob", &[shown("m1"), shown("m2")])]).is_clean();
    back.end(&[("bob", &[shown("m2"), shown("m1")])]).is_clean();
}

#[test]
fn numbers_have_no_gap() {
    let mut run = Run::new();
    run.saw("ann", LIVE, 7, Seen::Other);
    let mut clean = run.clone();
    run.saw("ann", LIVE, 9, Seen::Other).finds("gap: ann's log goes from event 7 to event 9");
    clean.saw("ann", LIVE, 8, Seen::Other).is_clean();
}

#[test]
fn the_last_reading_begins_at_the_first_event() {
    let mut run = Run::new();
    run.saw("ann", Reading::Final, 2, Seen::Other).finds("gap: ann's log goes from event 0");
    let mut clean = Run::new();
    clean.push(Record::Stayed { who: "ann".into(), holdings_read: false, events_from: 2 });
    clean.saw("ann", Reading::Final, 2, Seen::Other).is_clean();
}

#[test]
fn numbers_do_not_go_back_within_a_reading() {
    let mut run = Run::new();
    run.saw("ann", LIVE, 7, Seen::Other);
    let mut clean = run.clone();
    run.saw("ann", LIVE, 7, Seen::Other).finds("numbers go back: ann's log");
    clean.saw("ann", Reading::Live(2), 7, Seen::Other).is_clean();
}

#[test]
fn what_was_read_once_reads_the_same_ever_after() {
    let mut run = Run::new();
    run.sent("ann", &direct(), "m", delivered(1));
    run.saw("bob", LIVE, 1, message("ann", &direct(), "m"));
    let (mut clean, mut gone) = (run.clone(), run.clone());
    let mut rewritten = run.clone();
    let shown = message("ann", &direct(), "m");
    clean.end(&[("bob", std::slice::from_ref(&shown))]).is_clean();
    let of = |run: &Run| {
        let all = run.check();
        all.iter().map(ToString::to_string).find(|v| v.starts_with("rewritten"))
    };
    rewritten.end(&[("bob", &[Seen::Other])]);
    assert!(of(&rewritten).expect("found").contains("event 1 of bob"));
    gone.end(&[("bob", &[])]);
    assert!(of(&gone).expect("found").contains("event 1 of bob"));
}

#[test]
fn who_goes_back_to_a_backup_may_read_anew_but_others_may_not() {
    let mut run = Run::new();
    run.sent("ann", &direct(), "m", delivered(1));
    run.saw("bob", LIVE, 1, message("ann", &direct(), "m"));
    restored(&mut run, "bob");
    let events = [Seen::Other, message("ann", &direct(), "m")];
    run.end(&[("ann", &[]), ("bob", &events)]).is_clean();

    let mut run = Run::new();
    run.sent("bob", &direct(), "m", delivered(1));
    restored(&mut run, "bob");
    let twice = [message("bob", &direct(), "m"), message("bob", &direct(), "m")];
    run.end(&[("ann", &twice)]).finds("duplicated: ann");
}
