//! The progress line: on a terminal a bar, elsewhere a line of text now and then. Always on stderr.

use std::{
    io::{self, IsTerminal as _, Write as _},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

/// How often a log that nobody watches hears of progress.
const LINE_EVERY: Duration = Duration::from_secs(30);

/// How far a part of the run is.
#[derive(Debug)]
pub struct ProgressLine {
    bar: ProgressBar,
    name: String,
    started: Instant,
    /// When the last line was written; `None` on a terminal.
    line: Option<Mutex<Instant>>,
}

impl ProgressLine {
    /// Begins a part, with its name in front. Without a total it goes on until told to end.
    pub fn begin(name: &str, total: Option<u64>) -> Self {
        let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
        let template = match total {
            Some(_) => "{prefix} {wide_bar} {pos}/{len} {per_sec} {eta} {msg}",
            None => "{prefix} {spinner} {pos} {per_sec} {elapsed} {msg}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_prefix(name.to_owned());
        let now = Instant::now();
        let line = (!io::stderr().is_terminal()).then(|| Mutex::new(now));
        Self { bar, name: name.to_owned(), started: now, line }
    }

    /// So many are done, with a word on what was found.
    pub fn at(&self, done: u64, word: &str) {
        self.bar.set_position(done);
        self.bar.set_message(word.to_owned());
        let Some(line) = &self.line else { return };
        let mut last = line.lock().unwrap_or_else(PoisonError::into_inner);
        if last.elapsed() >= LINE_EVERY {
            *last = Instant::now();
            self.write(done, word);
        }
    }

    /// Tells at once what must not wait for the end of a run of hours.
    pub fn tell(&self, found: &str) {
        // As with progress: nobody to read it is no reason to end.
        self.bar.suspend(|| drop(writeln!(io::stderr(), "{}: {found}", self.name)));
    }

    /// Ends the part.
    pub fn end(self, done: u64, word: &str) {
        self.bar.finish_and_clear();
        self.write(done, word);
    }

    fn write(&self, done: u64, word: &str) {
        let (name, seconds) = (&self.name, self.started.elapsed().as_secs());
        // Progress that nobody can read is no reason to end.
        let _ = writeln!(io::stderr(), "{name}: {done} after {seconds} s {word}");
    }
}
