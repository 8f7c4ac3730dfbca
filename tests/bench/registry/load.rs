//! What happens while all peers are online and say HELLO at the interval set: searches as fast as it goes,
//! a long time in which nobody may be told offline, a kill and a restart, and a flood of passwords.

use std::{
    io,
    sync::atomic::Ordering::Relaxed,
    thread,
    time::{Duration, Instant},
};

use harness::{ProgressLine, eventually};

use super::{
    Part, Wanted,
    crowd::{Crowd, Told},
    flood,
    ground::Ground,
    lookups,
    report::{OnlineRow, Report, RestartRow},
    search::{Plan, Searcher},
};

/// How long the peers may take to be online, beside one interval.
const SLACK: Duration = Duration::from_secs(30);

/// Searches in a second while all stay online: enough to ask for each peer, few enough not to be the load.
const SEARCHES_LEAST: f64 = 500.0;
const SEARCHES_MOST: f64 = 5000.0;

/// Of a thousand, so many must be online again after a restart, and how long after the interval.
const BACK_PER_MILLE: u64 = 999;
const BACK_AFTER_INTERVAL: Duration = Duration::from_secs(5);

/// Measures what is wanted, one after the other, with all peers saying HELLO meanwhile.
///
/// # Errors
/// Those of the sockets and of SQLite.
///
/// # Panics
/// If the peers do not come online.
pub(crate) fn measure(
    wanted: &Wanted,
    ground: &mut Ground,
    crowd: &mut Crowd,
    report: &mut Report,
) -> io::Result<()> {
    let told = Told::of(crowd.len());
    let place = ground.place().0;
    let spread_ms = crowd.interval_ms();
    thread::scope(|scope| {
        let running = scope.spawn(|| crowd.run(place, &told, spread_ms));
        let measured = {
            let _stop = told.stop_at_end();
            all_online(ground, &told);
            steps(wanted, ground, &told, report)
        };
        running.join().map_err(|_| io::Error::other("the crowd panicked"))??;
        measured
    })
}

fn steps(wanted: &Wanted, ground: &mut Ground, told: &Told, report: &mut Report) -> io::Result<()> {
    if wanted.wants(Part::Search) {
        report.search_under_hello = Some(lookups::measure(wanted, ground, &mut report.violations)?);
        report.write(&wanted.report)?;
    }
    if wanted.wants(Part::Online) {
        let row = online(wanted, ground, told)?;
        if row.offline + row.wrong > 0 {
            report.violations.push(format!(
                "{} of {} searches told a peer offline that says HELLO, {} were answered wrongly \
                 (the generator was {} ms late at the most): {}",
                row.offline, row.searched, row.wrong, row.late_ms, row.example
            ));
        }
        report.online = Some(row);
        report.write(&wanted.report)?;
    }
    if wanted.wants(Part::Restart) {
        report.restart = Some(restart(ground, told));
        report.write(&wanted.report)?;
    }
    if wanted.wants(Part::Flood) {
        let row = flood::measure(wanted, ground)?;
        report.violations.extend(row.violations());
        report.flood = Some(row);
    }
    Ok(())
}

fn all_online(ground: &Ground, told: &Told) {
    let limit = interval(told) + SLACK + Duration::from_secs(ground.sessions() / 5000);
    let progress = ProgressLine::begin("online", Some(ground.sessions()));
    eventually("all peers are online", limit, || {
        let online = told.online.load(Relaxed);
        progress.at(online, "");
        online >= ground.sessions()
    });
    progress.end(told.online.load(Relaxed), "");
}

fn interval(told: &Told) -> Duration {
    Duration::from_millis(u64::from(told.interval_ms.load(Relaxed)))
}

/// Every peer is searched, again and again; none may be told offline.
#[expect(clippy::cast_precision_loss, reason = "rates are shown in few digits")]
fn online(wanted: &Wanted, ground: &mut Ground, told: &Told) -> io::Result<OnlineRow> {
    let sessions = ground.sessions();
    let process = ground.process();
    let [sent, answered] = [&told.sent, &told.answered].map(|count| count.load(Relaxed));
    told.late_ms.store(0, Relaxed);
    let (start, cpu) = (Instant::now(), process.cpu_seconds());
    let each = sessions as f64 * 1.1 / wanted.time.as_secs_f64().max(1.0);
    let plan = Plan {
        among: sessions,
        under_way: 4096,
        per_second: Some(each.clamp(SEARCHES_LEAST, SEARCHES_MOST)),
        read_all: true,
        live: Some(told),
    };
    let progress = ProgressLine::begin("seconds online", Some(wanted.time.as_secs()));
    let mut searched = Searcher::connect(ground.place())?.run(plan, |time| {
        progress.at(time.as_secs(), "");
        time >= wanted.time
    })?;
    let seconds = start.elapsed().as_secs_f64();
    let row = OnlineRow {
        sessions,
        seconds,
        interval_ms: told.interval_ms.load(Relaxed),
        sent: told.sent.load(Relaxed) - sent,
        answered: told.answered.load(Relaxed) - answered,
        searched: searched.read,
        different: searched.read.min(sessions),
        offline: searched.offline,
        silent: searched.silent,
        wrong: searched.wrong,
        p99_ms: searched.per_mille_ms(990),
        late_ms: told.late_ms.load(Relaxed),
        cpu_percent: (process.cpu_seconds() - cpu) / seconds * 100.0,
        resident_bytes: process.memory().resident,
        peak_bytes: process.memory().peak,
        example: searched.example.unwrap_or_default(),
    };
    progress.end(wanted.time.as_secs(), &format!("{} told offline", row.offline));
    Ok(row)
}

/// kill -9, and how long it takes until all are back.
#[expect(clippy::cast_precision_loss, reason = "shares are shown in few digits")]
fn restart(ground: &mut Ground, told: &Told) -> RestartRow {
    let sessions = ground.sessions();
    let interval = interval(told);
    let progress = ProgressLine::begin("online after a restart", Some(sessions));
    ground.registry().kill();
    told.online.store(0, Relaxed);
    let start = Instant::now();
    ground.registry().restart();
    let ready = start.elapsed();
    let mut curve = vec![(0.0, 0.0), (ready.as_secs_f64(), 0.0)];
    let limit = interval * 2 + SLACK;
    let enough = |online: u64| online * 1000 >= sessions * BACK_PER_MILLE;
    let mut back = None;
    while start.elapsed() < ready + limit && back.is_none() {
        harness::never("time passes", Duration::from_millis(200), || false);
        let (online, now) = (told.online.load(Relaxed), start.elapsed());
        progress.at(online, "");
        curve.push((now.as_secs_f64(), online as f64 / sessions as f64));
        back = enough(online).then_some((now - ready).as_secs_f64());
    }
    progress.end(told.online.load(Relaxed), "");
    RestartRow {
        sessions,
        interval_ms: u32::try_from(interval.as_millis()).unwrap_or(u32::MAX),
        ready_seconds: ready.as_secs_f64(),
        back_seconds: back,
        back_seconds_max: (interval + BACK_AFTER_INTERVAL).as_secs_f64(),
        curve,
    }
}
