//! A history: records in the order of making, kept as JSON lines.

use std::io::{self, BufRead, Write};

use crate::record::Record;

/// The longest line that [`History::read`] takes: a room of 2,000 members fits many times.
const LINE_BYTES_MAX: usize = 1 << 20;

/// Why a history cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file.
    #[error("the history cannot be read")]
    Io(#[from] io::Error),
    /// A line that is no record.
    #[error("line {line} is no record")]
    Record {
        /// Which, from 1.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A line beyond all measure.
    #[error("line {line} is longer than {LINE_BYTES_MAX} bytes")]
    TooLong {
        /// Which, from 1.
        line: usize,
    },
}

/// What a run did, was told and saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    records: Vec<Record>,
}

impl History {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends what just happened.
    pub fn push(&mut self, record: Record) {
        self.records.push(record);
    }

    /// All records, in order.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Writes it as JSON lines.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, mut out: impl Write) -> io::Result<()> {
        for record in &self.records {
            serde_json::to_writer(&mut out, record)?;
            out.write_all(b"\n")?;
        }
        out.flush()
    }

    /// Reads JSON lines; empty lines are skipped.
    ///
    /// # Errors
    /// Those of `from`, and the first line that is no record.
    pub fn read(mut from: impl BufRead) -> Result<Self, ReadError> {
        let mut records = Vec::new();
        let mut text = Vec::new();
        for line in 1.. {
            text.clear();
            let limit = LINE_BYTES_MAX as u64 + 1;
            if io::Read::take(&mut from, limit).read_until(b'\n', &mut text)? == 0 {
                break;
            }
            if text.len() > LINE_BYTES_MAX {
                return Err(ReadError::TooLong { line });
            }
            if !text.trim_ascii().is_empty() {
                let record = serde_json::from_slice(&text);
                records.push(record.map_err(|source| ReadError::Record { line, source })?);
            }
        }
        Ok(Self { records })
    }
}

impl FromIterator<Record> for History {
    fn from_iter<I: IntoIterator<Item = Record>>(records: I) -> Self {
        Self { records: records.into_iter().collect() }
    }
}

impl Extend<Record> for History {
    fn extend<I: IntoIterator<Item = Record>>(&mut self, records: I) {
        self.records.extend(records);
    }
}
