//! Thousands of passwords at once, from many addresses; what others feel of it.
//!
//! Half come from the enrolled keys of their accounts with the right password, half from strangers who guess.
//! Whoever is cut without an answer comes again, as a peer would. Beside them one peer comes back by its key
//! again and again, and one searches.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use harness::{ProgressLine, RegistryClient, never};
use registryd_proto::{
    Answer, Code, Digest, Endpoints, Keypair, Password, PublicKey, Reply, Request,
    frame::{self, Kind},
    tls,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpSocket,
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{
    Wanted,
    ground::{Ground, SPOKEN_FOR},
    people::{ASKER, FIRST, PASSWORD, binding, keys, name},
    process::Process,
    report::FloodRow,
    search::{Plan, Searcher},
};

/// Logins that share a source address.
const PER_SOURCE: u64 = 20;

/// An answer takes no longer.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// How often somebody comes who was cut, and after which pause.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(500);

/// Searches in a second beside the flood.
const SEARCHES: f64 = 500.0;

/// Between two resumes beside it.
const RESUME_EVERY: Duration = Duration::from_millis(200);

/// What became of the logins.
#[derive(Debug, Default)]
struct Outcomes {
    granted: AtomicU64,
    refused: AtomicU64,
    later: AtomicU64,
    other: AtomicU64,
    unanswered: AtomicU64,
    cut: AtomicU64,
    done: AtomicU64,
}

/// Floods, and looks at the others meanwhile.
///
/// # Errors
/// Those of the searching connection.
pub(crate) fn measure(wanted: &Wanted, ground: &mut Ground) -> io::Result<FloodRow> {
    let logins = wanted.logins.min(ground.accounts()).min(SPOKEN_FOR);
    let (place, process) = (ground.place(), ground.process());
    let plan = Plan {
        among: ground.accounts(),
        under_way: 4096,
        per_second: Some(SEARCHES),
        read_all: true,
        live: None,
    };
    let mut searcher = Searcher::connect(place)?;
    let mut before = searcher.run(plan, |time| time >= wanted.round)?;
    let memory = process.memory();
    let (over, outcomes) = (AtomicBool::new(false), Outcomes::default());
    let start = Instant::now();
    thread::scope(|scope| {
        let resuming = scope.spawn(|| resumes(place, &over));
        let watching = scope.spawn(|| most_resident(process, &over));
        let flooding = scope.spawn(|| {
            let flooded = flood(place, logins, &outcomes);
            over.store(true, Relaxed);
            flooded
        });
        let progress = ProgressLine::begin("passwords answered", Some(logins));
        let during = searcher.run(plan, |_| {
            progress.at(outcomes.done.load(Relaxed), "");
            over.load(Relaxed)
        });
        // Also if the search broke: the others end when the flood does.
        let flooded = flooding.join();
        let (resumed, resident) = (resuming.join(), watching.join());
        let seconds = start.elapsed().as_secs_f64();
        progress.end(outcomes.done.load(Relaxed), "");
        flooded.map_err(|_| io::Error::other("the flood panicked"))??;
        let mut during = during?;
        let (resumes, resumes_failed, resume_max_ms) =
            resumed.map_err(|_| io::Error::other("the resumes panicked"))?;
        let of = |count: &AtomicU64| count.load(Relaxed);
        Ok(FloodRow {
            logins,
            seconds,
            granted: of(&outcomes.granted),
            refused: of(&outcomes.refused),
            told_later: of(&outcomes.later),
            otherwise: of(&outcomes.other),
            unanswered: of(&outcomes.unanswered),
            cut: of(&outcomes.cut),
            search_p99_before_ms: before.per_mille_ms(990),
            searches: during.count,
            search_wrong: during.wrong,
            search_p50_ms: during.per_mille_ms(500),
            search_p99_ms: during.per_mille_ms(990),
            resumes,
            resumes_failed,
            resume_max_ms,
            resident_before_bytes: memory.resident,
            resident_most_bytes: resident.unwrap_or_default(),
        })
    })
}

/// Comes back by its key again and again: how often, how often in vain, and the longest in milliseconds.
fn resumes((place, key): (SocketAddr, PublicKey), over: &AtomicBool) -> (u64, u64, f64) {
    let own = keys("peer", ASKER);
    let (mut count, mut failed, mut longest) = (0_u64, 0_u64, 0.0_f64);
    while !over.load(Relaxed) {
        let request = Request::Resume {
            attempt: Digest::derive("p2pchat bench resume 1", &[&count.to_be_bytes()]),
            endpoints: Endpoints::default(),
            serial: 0,
            epoch: 0,
        };
        let start = Instant::now();
        // A client that is cut panics.
        let asked = thread::scope(|scope| {
            scope.spawn(|| RegistryClient::connect(place, key, &own).ask(&request)).join()
        });
        longest = longest.max(start.elapsed().as_secs_f64() * 1000.0);
        count += 1;
        failed += u64::from(!matches!(asked, Ok(Answer::Ok(Reply::Session(_)))));
        never("time passes", RESUME_EVERY, || false);
    }
    (count, failed, longest)
}

fn most_resident(process: Process, over: &AtomicBool) -> u64 {
    let mut most = 0;
    while !over.load(Relaxed) {
        most = most.max(process.memory().resident);
        never("time passes", Duration::from_millis(50), || false);
    }
    most
}

fn flood(place: (SocketAddr, PublicKey), logins: u64, outcomes: &Outcomes) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut tasks = JoinSet::new();
        for at in 0..logins {
            tasks.spawn(login(place, at));
        }
        while let Some(ended) = tasks.join_next().await {
            let (answer, cut) = ended.unwrap_or((None, 0));
            outcomes.count(answer);
            outcomes.cut.fetch_add(cut.into(), Relaxed);
        }
    });
    Ok(())
}

impl Outcomes {
    fn count(&self, answer: Option<Answer>) {
        let counter = match answer {
            Some(Answer::Ok(Reply::Session(_))) => &self.granted,
            Some(Answer::Error(failure)) if failure.retry_after_ms.is_some() => &self.later,
            Some(Answer::Error(failure)) if failure.code == Code::BadCredentials => &self.refused,
            Some(_) => &self.other,
            None => &self.unanswered,
        };
        counter.fetch_add(1, Relaxed);
        self.done.fetch_add(1, Relaxed);
    }
}

/// The answer, and how often the connection ended without one.
async fn login(place: (SocketAddr, PublicKey), at: u64) -> (Option<Answer>, u32) {
    let number = FIRST + at;
    let enrolled = at.is_multiple_of(2);
    let own = keys(if enrolled { "peer" } else { "stranger" }, number);
    let password = if enrolled { PASSWORD } else { "a password that is wrong" };
    let request = Request::Login {
        username: name(number),
        password: Password::new(password.to_owned()).expect("a long password"),
        binding: binding(&place.1, number, &own),
        attempt: Digest::derive("p2pchat bench login 1", &[&number.to_be_bytes()]),
        takeover: false,
        endpoints: Endpoints::default(),
    };
    let [_, _, high, low] = u32::try_from(at / PER_SOURCE + 2).unwrap_or(2).to_be_bytes();
    let source = Ipv4Addr::new(127, 1, high, low);
    for cut in 0..TRIES {
        match timeout(ANSWER_WITHIN, ask(place, source, &own, &request)).await {
            Ok(Ok(answer)) => return (Some(answer), cut),
            Ok(Err(_)) => {
                let _ = timeout(PAUSE, std::future::pending::<()>()).await;
            }
            Err(_) => return (None, cut),
        }
    }
    (None, TRIES)
}

async fn ask(
    (place, key): (SocketAddr, PublicKey),
    source: Ipv4Addr,
    own: &Keypair,
    request: &Request,
) -> io::Result<Answer> {
    let config = tls::client_config(own, Some(key)).map_err(io::Error::other)?;
    let socket = TcpSocket::new_v4()?;
    socket.bind((source, 0).into())?;
    let stream = socket.connect(place).await?;
    let mut stream = TlsConnector::from(config).connect(tls::server_name(), stream).await?;
    let json = frame::encode(Kind::Request, request).map_err(io::Error::other)?;
    stream.write_u32(json.len() as u32).await?;
    stream.write_all(&json).await?;
    stream.flush().await?;
    let length = stream.read_u32().await? as usize;
    if length > Kind::Reply.bytes_max() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    frame::decode(&body).map_err(io::Error::other)
}
