//! Histories are kept as JSON lines.

use p2pchat_history::{History, Outcome, ReadError, Reading, Record, Seen, Summary};

use crate::build::{Run, delivered, den, direct, message};

#[test]
fn a_history_written_and_read_is_the_same_and_is_judged_the_same() {
    let mut run = Run::new();
    run.sent("ann", &direct(), "m", delivered(1)).sent("ann", &den(), "m", Outcome::Crashed);
    run.saw("bob", Reading::Live(3), 5, Seen::Other);
    run.end(&[("bob", &[message("ann", &direct(), "other")])]);
    let history = run.history();
    let mut text = Vec::new();
    history.write(&mut text).expect("memory is written");
    assert_eq!(text.iter().filter(|b| **b == b'\n').count(), run.records.len());
    let read = History::read(&text[..]).expect("what was written");
    assert_eq!(read, history);
    assert_eq!(p2pchat_history::check(&read), run.check());
}

#[test]
fn lines_from_outside_are_read_with_care() {
    let read = |text: &str| History::read(text.as_bytes());
    assert_eq!(read("\n\n").expect("empty lines are nothing").records(), []);
    let healed = read("{\"record\":\"healed\",\"at_ms\":3,\"more\":1}").expect("fields are added");
    assert_eq!(healed.records(), [Record::Healed { at_ms: 3 }]);
    assert!(matches!(read("\n{\"record\":\"no\"}\n"), Err(ReadError::Record { line: 2, .. })));
    let long = "x".repeat(2 << 20);
    assert!(matches!(read(&long), Err(ReadError::TooLong { line: 1 })));
}

#[test]
fn the_documented_example_is_one() {
    let source = include_str!("../../src/record.rs");
    let lines =
        source.lines().filter_map(|l| l.strip_prefix("//! ")).filter(|l| l.starts_with('{'));
    let text: Vec<&str> = lines.collect();
    let history = History::read(text.join("\n").as_bytes()).expect("records");
    assert_eq!(history.records().len(), 5);
    assert_eq!(p2pchat_history::check(&history), []);
}

#[test]
fn the_figures_are_counted() {
    let mut run = Run::new();
    run.sent("ann", &direct(), "m", Outcome::Crashed).sent("ann", &direct(), "m", delivered(1));
    run.sent("ann", &direct(), "x", Outcome::Refused("conflict".into()));
    run.end(&[("ann", &[]), ("bob", &[])]);
    let summary = Summary::of(&run.history(), &run.check());
    assert_eq!((summary.calls, summary.messages, summary.accepted), (3, 2, 1));
    assert_eq!((summary.unknown, summary.refused, summary.shown), (1, 1, 0));
    assert_eq!((summary.lost, summary.duplicated, summary.misordered), (1, 0, 0));
}
