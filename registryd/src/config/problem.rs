//! What is wrong with a configuration file, and where.

use std::{fmt, ops::Range, path::Path};

use serde::Serialize;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// From 1; `None` where it is of a value that is not in the file, but a default.
    pub line: Option<usize>,
    /// From 1, in characters.
    pub column: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// What may have been meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Problem {
    /// At a place of the text, if it is at one.
    pub(super) fn at(text: &str, span: Option<Range<usize>>, message: impl Into<String>) -> Self {
        let before = span.and_then(|span| text.get(..span.start.min(text.len())));
        let (line, column) = before
            .map(|before| {
                let line = before.matches('\n').count() + 1;
                let start = before.rfind('\n').map_or(0, |at| at + 1);
                (line, before[start..].chars().count() + 1)
            })
            .unzip();
        Self { line, column, message: message.into(), hint: None }
    }

    /// With what may have been meant.
    pub(super) fn with_hint(self, hint: Option<String>) -> Self {
        Self { hint, ..self }
    }

    /// `FILE:LINE:COLUMN: message (hint)`, as compilers and editors write and read it.
    pub fn shown<'a>(&'a self, file: &'a Path) -> impl fmt::Display + 'a {
        Shown { problem: self, file }
    }
}

struct Shown<'a> {
    problem: &'a Problem,
    file: &'a Path,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem { line, column, message, hint } = self.problem;
        write!(f, "{}:", self.file.display())?;
        if let (Some(line), Some(column)) = (line, column) {
            write!(f, "{line}:{column}:")?;
        }
        write!(f, " {message}")?;
        hint.as_ref().map_or(Ok(()), |hint| write!(f, " ({hint})"))
    }
}
