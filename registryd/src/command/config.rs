//! `registryd config check`: all that is wrong with a configuration file, before a start or a reload meets it.

use std::{fmt, path::PathBuf};

use serde::Serialize;

use super::{Answer, CommandError};
use crate::config::{Config, Problem};

#[derive(Debug, Serialize)]
pub(super) struct Checked {
    file: PathBuf,
    valid: bool,
    problems: Vec<Problem>,
}

impl Answer for Checked {
    const SCHEMA: &'static str = "registryd.config/1";
}

impl Checked {
    /// Whether a registry would start with it.
    pub(super) fn is_valid(&self) -> bool {
        self.valid
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.valid {
            return write!(f, "{}: valid", self.file.display());
        }
        let shown = self.problems.iter().map(|p| p.shown(&self.file).to_string());
        write!(f, "{}", shown.collect::<Vec<_>>().join("\n"))
    }
}

pub(super) fn check(file: Option<PathBuf>) -> Result<Checked, CommandError> {
    let file = file.ok_or(CommandError::NoConfig)?;
    let problems = Config::problems(&file)
        .map_err(|source| CommandError::Io { path: file.clone(), source })?;
    Ok(Checked { file, valid: problems.is_empty(), problems })
}
