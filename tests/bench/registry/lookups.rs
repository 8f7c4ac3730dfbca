//! Search beside bare lookups, by turns.

use std::io;

use harness::ProgressLine;

use super::{
    Wanted,
    ground::Ground,
    report::{SearchRow, Spread},
    search::{Plan, Searcher, UNDER_WAY, lookups},
};

/// A row; what did not go as it must goes to `violations`.
///
/// # Errors
/// Those of the connection and of SQLite.
pub(crate) fn measure(
    wanted: &Wanted,
    ground: &Ground,
    violations: &mut Vec<String>,
) -> io::Result<SearchRow> {
    let accounts = ground.accounts();
    let plan = Plan {
        among: accounts,
        under_way: UNDER_WAY,
        per_second: None,
        read_all: false,
        live: None,
    };
    let name = format!("search, {accounts} accounts, {} sessions", ground.sessions());
    let progress = ProgressLine::begin(&name, Some(wanted.rounds.into()));
    let mut searcher = Searcher::connect(ground.place())?;
    let mut rounds = Vec::new();
    for done in 0..wanted.rounds {
        let mut searched = searcher.run(plan, |time| time >= wanted.round)?;
        let bare = lookups(&ground.database(), accounts, wanted.round).map_err(io::Error::other)?;
        if searched.wrong > 0 {
            let example = searched.example.take().unwrap_or_default();
            violations.push(format!("{name}: {} wrong answers: {example}", searched.wrong));
        }
        let (p50, p99) = (searched.per_mille_ms(500), searched.per_mille_ms(990));
        let told = format!("{:.0}/s, p99 {p99:.2} ms, lookup {bare:.0}/s", searched.per_second());
        progress.at(u64::from(done) + 1, &told);
        rounds.push((searched.per_second(), p50, p99, bare, told));
    }
    progress.end(wanted.rounds.into(), rounds.last().map_or("", |round| &round.4));
    Ok(SearchRow {
        accounts,
        sessions: ground.sessions(),
        per_second: Spread::of(rounds.iter().map(|round| round.0)),
        p50_ms: Spread::of(rounds.iter().map(|round| round.1)),
        p99_ms: Spread::of(rounds.iter().map(|round| round.2)),
        lookups_per_second: Spread::of(rounds.iter().map(|round| round.3)),
        of_lookups: Spread::of(rounds.iter().map(|round| round.0 / round.3)),
    })
}
