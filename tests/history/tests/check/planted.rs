//! Long histories of random runs: clean ones are clean, and one planted defect is found, whatever the seed.

use p2pchat_history::{Body, Conversation, Outcome, Reading, Record, Seen, Violation, check};

use crate::build::{Run, delivered, den, direct, message, queued};

/// SplitMix64: a seed gives the same run for ever.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

/// What is wrong with a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Defect {
    None,
    Lost,
    Duplicated,
    Invented,
    Altered,
    Swapped,
    Skipped,
    Rewritten,
    TakenBack,
    Leaked,
    Waiting,
    Diverged,
    TooMany,
    ToldTwice,
}

/// Each defect and how its violation begins. All planted losses are of messages that were told as queued or
/// as delivered, so that one of two violations names them.
const ALL: [(Defect, &str); 13] = [
    (Defect::Lost, "lost|false delivered"),
    (Defect::Duplicated, "duplicated"),
    (Defect::Invented, "invented"),
    (Defect::Altered, "altered"),
    (Defect::Swapped, "out of order"),
    (Defect::Skipped, "gap"),
    (Defect::Rewritten, "rewritten"),
    (Defect::TakenBack, "backwards"),
    (Defect::Leaked, "leaked"),
    (Defect::Waiting, "pending"),
    (Defect::Diverged, "diverged"),
    (Defect::TooMany, "false total"),
    (Defect::ToldTwice, "answered twice"),
];

/// `messages` messages of ann to bob or to the room, some calls crashing, each repeated until it is told.
fn random_run(seed: u64, messages: u64, defect: Defect) -> Run {
    let mut chance = Chance(seed);
    let mut run = Run::new();
    let mut logs: [Vec<Seen>; 2] = [Vec::new(), Vec::new()];
    for number in 0..messages {
        let to = if chance.below(2) == 0 { direct() } else { den() };
        let id = format!("m{number}");
        let n = if to == den() { 2 } else { 1 };
        while chance.below(4) == 0 {
            run.sent("ann", &to, &id, Outcome::Crashed);
        }
        let outcome = if chance.below(3) == 0 { queued(0, n) } else { delivered(n) };
        run.sent("ann", &to, &id, outcome);
        for log in logs.iter_mut().take(n as usize) {
            while chance.below(5) == 0 {
                log.push(Seen::Other);
            }
            log.push(message("ann", &to, &id));
        }
        if chance.below(3) == 0 {
            let next = logs[0].len() as u64;
            let newest = logs[0].last().cloned();
            newest.into_iter().for_each(|what| {
                let reading = Reading::Live(u32::try_from(number).expect("few readings"));
                run.saw("bob", reading, next, what);
            });
        }
    }
    plant(&mut run, &mut logs, defect, &mut chance);
    let [bob, cem] = &logs;
    run.end(&[("ann", &[]), ("bob", bob), ("cem", cem)]);
    plant_in_the_end(&mut run, defect, bob);
    run
}

/// Among the messages that bob has in the room, one that is not the last.
fn any_of(log: &[Seen], chance: &mut Chance) -> usize {
    let of_room =
        |what: &Seen| matches!(what, Seen::Message { conversation: Conversation::Room(_), .. });
    let places: Vec<usize> = (0..log.len()).filter(|at| of_room(&log[*at])).collect();
    let count = places.len() as u64 - 1;
    places[usize::try_from(chance.below(count)).expect("a place")]
}

fn plant(run: &mut Run, logs: &mut [Vec<Seen>; 2], defect: Defect, chance: &mut Chance) {
    let cem = &mut logs[1];
    let at = any_of(cem, chance);
    match defect {
        Defect::Lost => cem[at] = Seen::Other,
        Defect::Duplicated => cem.push(cem[at].clone()),
        Defect::Invented => cem.insert(at, message("ann", &den(), "ghost")),
        Defect::Altered => {
            if let Seen::Message { body, .. } = &mut cem[at] {
                *body = Body::of("no");
            }
        }
        Defect::Swapped => {
            let next = (at + 1..cem.len()).find(|n| cem[*n] != Seen::Other).expect("not the last");
            cem.swap(at, next);
        }
        Defect::Rewritten => {
            run.saw("cem", Reading::Live(0), at as u64 + 1, Seen::Other);
        }
        Defect::TakenBack => {
            run.sent("ann", &direct(), "t", delivered(1)).sent("ann", &direct(), "t", queued(0, 1));
            logs[0].push(message("ann", &direct(), "t"));
        }
        Defect::TooMany => {
            run.sent("ann", &den(), "t", queued(0, 7));
            logs.iter_mut().for_each(|log| log.push(message("ann", &den(), "t")));
        }
        Defect::ToldTwice => {
            run.told(1, Outcome::Crashed);
        }
        _ => {}
    }
}

fn plant_in_the_end(run: &mut Run, defect: Defect, bob: &[Seen]) {
    let Seen::Message { id, .. } =
        bob.iter().find(|w| matches!(w, Seen::Message { .. })).expect("some").clone()
    else {
        return;
    };
    let room = bob.iter().find_map(|what| match what {
        Seen::Message { id, conversation: Conversation::Room(_), .. } => Some(id.clone()),
        _ => None,
    });
    let author = "ann".to_owned();
    match defect {
        Defect::Skipped => {
            run.saw("bob", Reading::Final, bob.len() as u64 + 2, Seen::Other);
        }
        Defect::Leaked => {
            let (who, id) = ("eva".to_owned(), room.expect("a message of the room"));
            run.push(Record::Holds { who, author, conversation: den(), id });
        }
        Defect::Waiting => {
            run.push(Record::Waits { who: author, to: den(), id });
        }
        Defect::Diverged => {
            for (who, head) in [("ann", "9"), ("bob", "8"), ("cem", "9")] {
                let (who, head, stream) = (who.to_owned(), head.to_owned(), "s".to_owned());
                run.push(Record::Head { who, conversation: den(), stream, head });
            }
        }
        _ => {}
    }
}

#[test]
fn clean_runs_are_clean() {
    for seed in 0..200 {
        let found = random_run(seed, 60, Defect::None).check();
        assert_eq!(found, [], "seed {seed}");
    }
}

#[test]
fn a_planted_defect_is_found() {
    for (defect, word) in ALL {
        for seed in 0..40 {
            let found = random_run(seed, 60, defect).check();
            let named = |v: &Violation| word.split('|').any(|w| v.to_string().starts_with(w));
            assert!(found.iter().any(named), "{defect:?}, seed {seed}: {found:#?}");
        }
    }
}

#[test]
fn a_million_records_are_judged() {
    let run = random_run(1, 220_000, Defect::Lost);
    assert!(run.records.len() > 1_000_000, "{}", run.records.len());
    let found = check(&run.history());
    assert!(matches!(found[..], [Violation::Lost { .. } | Violation::FalseDelivered { .. }, ..]));
}
