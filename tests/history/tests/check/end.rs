//! What is so after healing.

use p2pchat_history::{Conversation, Outcome, Record, Seen};

use crate::build::{Run, delivered, den, direct, message, queued};

fn holds(run: &mut Run, who: &str, conversation: &Conversation) {
    let (who, author, id) = (who.to_owned(), "ann".to_owned(), "m".to_owned());
    run.push(Record::Holds { who, author, conversation: conversation.clone(), id });
}

fn head(run: &mut Run, who: &str, head: &str) {
    let (who, head, stream) = (who.to_owned(), head.to_owned(), "s".to_owned());
    run.push(Record::Head { who, conversation: den(), stream, head });
}

fn waits(run: &mut Run) {
    run.push(Record::Waits { who: "ann".into(), to: direct(), id: "m".into() });
}

#[test]
fn what_was_accepted_arrives() {
    let mut run = Run::new();
    run.sent("ann", &direct(), "m", queued(0, 1));
    let (mut clean, mut away) = (run.clone(), run.clone());
    let mut held = run.clone();
    let both: [(&str, &[Seen]); 2] = [("ann", &[]), ("bob", &[])];
    run.end(&both).finds("lost: message m of ann");
    clean.end(&[("ann", &[]), ("bob", &[message("ann", &direct(), "m")])]).is_clean();
    away.end(&[("bob", &[])]).is_clean();
    held.push(Record::MayWait { who: "ann".into(), to: direct(), id: None });
    held.end(&both).is_clean();
}

#[test]
fn without_healing_nothing_is_owed() {
    let mut run = Run::new();
    run.sent("ann", &direct(), "m", delivered(1)).stayed("ann", false).stayed("bob", false);
    run.is_clean();
}

#[test]
fn what_was_given_up_need_not_arrive_and_does_not() {
    let mut run = Run::new();
    run.sent("ann", &direct(), "m", Outcome::Rejected);
    let mut clean = run.clone();
    let shown = [message("ann", &direct(), "m")];
    run.end(&[("ann", &[]), ("bob", &shown)]);
    run.finds("given up and yet shown: message m of ann in the chat of ann and bob is rejected");
    clean.end(&[("ann", &[]), ("bob", &[])]).is_clean();
}

#[test]
fn delivered_means_that_the_recipient_has_it() {
    let mut run = Run::new();
    run.sent("ann", &direct(), "m", delivered(1));
    let mut clean = run.clone();
    // Though ann is away: bob has confirmed it.
    run.end(&[("bob", &[])]);
    let found = run.check();
    assert!(found.iter().any(|v| v.to_string().starts_with("false delivered")), "{found:?}");
    clean.end(&[("bob", &[message("ann", &direct(), "m")])]).is_clean();
}

#[test]
fn what_was_shown_must_be_held_where_holdings_are_read() {
    let history = |held| {
        let mut run = Run::new();
        run.sent("ann", &direct(), "m", queued(0, 1));
        run.end(&[("ann", &[]), ("bob", &[message("ann", &direct(), "m")])]);
        run.stayed("bob", true);
        if held {
            holds(&mut run, "bob", &direct());
        }
        run
    };
    history(true).is_clean();
    history(false).finds("lost");
}

#[test]
fn a_room_hears_all_or_nothing_of_a_dead_author() {
    let mut run = Run::new();
    run.sent("ann", &den(), "m", Outcome::Crashed);
    let (mut all, mut none) = (run.clone(), run.clone());
    let heard = [message("ann", &den(), "m")];
    run.end(&[("bob", &heard), ("cem", &[])]);
    run.finds("half sent: message m of ann in the room den reached bob, who stayed, but not cem");
    all.end(&[("bob", &heard), ("cem", &heard)]).is_clean();
    none.end(&[("bob", &[]), ("cem", &[])]).is_clean();
}

#[test]
fn who_left_or_came_later_is_owed_nothing() {
    let mut run = Run::new();
    run.sent("ann", &den(), "m", delivered(2)).epoch(4, &["ann", "bob", "dan"]);
    let heard = [message("ann", &den(), "m")];
    run.end(&[("ann", &[]), ("bob", &heard), ("cem", &[]), ("dan", &[])]);
    // cem left later: had it been up, it would have it; a count of 2 is then all that is wrong.
    run.finds("false count");
}

#[test]
fn only_members_of_the_epoch_have_a_message() {
    let history = |known, reader| {
        let mut run = Run::new();
        let op = run.call("ann", &den(), "m");
        run.epoch(4, &["ann", "bob", "cem", "dan"]);
        let at_ms = run.now();
        run.push(Record::Told { at_ms, op, outcome: Outcome::TimedOut, epoch: None });
        run.sent("ann", &den(), "m", queued(0, known));
        run.end(&[(reader, &[message("ann", &den(), "m")])]);
        run
    };
    // Written at epoch 3 or 4: dan may have it. eva never may.
    history(3, "dan").is_clean();
    history(3, "eva").finds("leaked: eva has message m of ann");

    let exact = |reader| {
        let mut run = Run::new();
        let op = run.call("ann", &den(), "m");
        let at_ms = run.now();
        run.push(Record::Told { at_ms, op, outcome: queued(0, 2), epoch: Some(3) });
        run.epoch(4, &["ann", "bob", "cem", "dan"]);
        run.end(&[(reader, &[message("ann", &den(), "m")])]);
        run
    };
    exact("cem").is_clean();
    exact("dan").finds("leaked: dan");
}

#[test]
fn where_history_is_for_all_a_joiner_may_have_it_and_who_left_may_not() {
    let exact = |reader: &str| {
        let mut run = Run::default();
        let members = |all: &[&str]| all.iter().map(|&m| m.to_owned()).collect();
        let epoch = |run: &mut Run, epoch, all: &[&str]| {
            let (at_ms, room, members) = (run.now(), "den".to_owned(), members(all));
            run.push(Record::Epoch { at_ms, room, epoch, members, history_for_all: true });
        };
        epoch(&mut run, 1, &["ann", "cem"]);
        epoch(&mut run, 2, &["ann", "bob"]);
        let op = run.call("ann", &den(), "m");
        let at_ms = run.now();
        run.push(Record::Told { at_ms, op, outcome: queued(0, 1), epoch: Some(2) });
        epoch(&mut run, 3, &["ann", "bob", "dan"]);
        run.end(&[(reader, &[message("ann", &den(), "m")])]);
        run
    };
    exact("dan").is_clean();
    exact("cem").finds("leaked: cem");
}

#[test]
fn strangers_hold_no_body() {
    let mut run = Run::new();
    run.sent("ann", &direct(), "m", delivered(1));
    holds(&mut run, "bob", &direct());
    run.is_clean();
    holds(&mut run, "cem", &direct());
    run.finds("leaked: cem has message m of ann");
}

#[test]
fn no_body_is_held_that_nobody_sent() {
    let mut run = Run::new();
    holds(&mut run, "bob", &direct());
    run.finds("invented");
}

#[test]
fn members_agree_on_every_stream() {
    let history = |bobs, cems: Option<&str>| {
        let mut run = Run::new();
        run.end(&[("ann", &[]), ("bob", &[]), ("cem", &[])]);
        head(&mut run, "ann", "7");
        head(&mut run, "bob", bobs);
        if let Some(cems) = cems {
            head(&mut run, "cem", cems);
        }
        run
    };
    history("7", Some("7")).is_clean();
    history("6", Some("7")).finds("diverged: in the room den ann and bob differ on s");
    history("7", None).finds("diverged: in the room den ann and cem differ on s");
}

#[test]
fn who_left_need_not_agree() {
    let mut run = Run::new();
    run.epoch(4, &["ann", "bob"]).end(&[("ann", &[]), ("bob", &[]), ("cem", &[])]);
    head(&mut run, "ann", "7");
    head(&mut run, "bob", "7");
    head(&mut run, "cem", "5");
    run.is_clean();
}

#[test]
fn nothing_waits_after_healing() {
    let mut run = Run::new();
    run.sent("ann", &direct(), "m", Outcome::TimedOut);
    let (mut away, mut held) = (run.clone(), run.clone());
    run.end(&[("ann", &[]), ("bob", &[])]).is_clean();
    waits(&mut run);
    run.finds("pending: message m of ann");
    away.end(&[("ann", &[])]);
    waits(&mut away);
    away.is_clean();
    held.push(Record::MayWait { who: "ann".into(), to: direct(), id: Some("m".into()) });
    held.end(&[("ann", &[]), ("bob", &[])]);
    waits(&mut held);
    held.is_clean();
}
