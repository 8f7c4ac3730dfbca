//! From the text of a file to a configuration, or to all that is wrong with it.
//!
//! What keys there are is asked of the types themselves, so that it is written once.

use std::ops::Range;

use serde::{Deserialize, Deserializer, de, forward_to_deserialize_any};
use toml::de::{DeTable, DeValue};

use super::{Config, ConnectionsConfig, HelloConfig, MetricsConfig, StoreConfig, problem::Problem};
use crate::limits::{Rate, Rates};

/// A word that is farther from another than so many changes was not meant for it.
const CHANGES_MAX: usize = 3;

/// Reads a file's text.
///
/// # Errors
/// All that is wrong, at least one, in the order of the file; where the text is no TOML, the first thing.
pub(super) fn read(text: &str) -> Result<Config, Vec<Problem>> {
    let problem =
        |error: &toml::de::Error| Problem::at(text, error.span(), error.message().trim_end());
    let document = DeTable::parse(text).map_err(|error| vec![problem(&error)])?;
    let mut rest = document.clone();
    let mut taken = Taken { text, problems: Vec::new(), holes: Vec::new() };
    taken.unknown(rest.get_mut(), None, &mut Vec::new());
    let config = loop {
        match Config::deserialize(toml::de::Deserializer::from(rest.clone())) {
            Ok(config) => break Some(config),
            Err(error) => {
                let at = error.span().map(|span| span.start);
                // What is missing there is what was taken.
                if at.is_none_or(|at| !taken.holes.contains(&at)) {
                    taken.problems.push(problem(&error));
                }
                // Without what is wrong the next thing is told: each turn takes one away.
                if !at.is_some_and(|at| taken.innermost(rest.get_mut(), None, at)) {
                    break None;
                }
            }
        }
    };
    let mut problems = taken.problems;
    for (path, message) in config.iter().flat_map(Config::out_of_range) {
        problems.push(Problem::at(text, span(document.get_ref(), path), message));
    }
    problems.sort_by_key(|problem| (problem.line, problem.column));
    // Tables of one header are at one place.
    problems.dedup();
    config.filter(|_| problems.is_empty()).ok_or(problems)
}

/// What is taken away from a document, so that the rest of it can be read.
struct Taken<'a> {
    text: &'a str,
    problems: Vec<Problem>,
    /// Where the tables are that something was taken from, but for the outermost.
    holes: Vec<usize>,
}

impl Taken<'_> {
    /// Takes the keys that there are not, and tells them. `begin` is where the table is, `path` its name.
    fn unknown(&mut self, table: &mut DeTable<'_>, begin: Option<usize>, path: &mut Vec<String>) {
        let Some(known) = keys(path) else { return };
        let mut unknown = Vec::new();
        for (key, value) in table.iter_mut() {
            let name = key.get_ref().as_ref();
            let begin = value.span().start;
            if !known.contains(&name) {
                let message = match path.as_slice() {
                    [] => format!("unknown key {name:?}"),
                    path => format!("unknown key {name:?} in [{}]", path.join(".")),
                };
                let problem = Problem::at(self.text, Some(key.span()), message);
                self.problems.push(problem.with_hint(meant(name, known)));
                unknown.push(key.clone());
            } else if let DeValue::Table(inner) = value.get_mut() {
                path.push(name.to_owned());
                self.unknown(inner, Some(begin), path);
                path.pop();
            }
        }
        if !unknown.is_empty() {
            self.holes.extend(begin);
        }
        unknown.iter().for_each(|key| drop(table.remove(key)));
    }

    /// Takes the innermost value at a place of the text. False if none is there.
    fn innermost(&mut self, table: &mut DeTable<'_>, begin: Option<usize>, at: usize) -> bool {
        let inside = table.iter_mut().any(|(_, value)| {
            let begin = value.span().start;
            match value.get_mut() {
                DeValue::Table(inner) => self.innermost(inner, Some(begin), at),
                _ => false,
            }
        });
        if inside {
            return true;
        }
        let is_there = |range: Range<usize>| range.start == at || range.contains(&at);
        let found =
            table.iter().find(|(key, value)| is_there(key.span()) || is_there(value.span()));
        let Some(key) = found.map(|(key, _)| key.clone()) else { return false };
        table.remove(&key);
        self.holes.extend(begin);
        true
    }
}

/// Where the value at a path like `hello.interval_min_ms` is in a file, if it is.
pub(super) fn place(text: &str, path: &str) -> Option<Range<usize>> {
    span(DeTable::parse(text).ok()?.get_ref(), path)
}

fn span(table: &DeTable<'_>, path: &str) -> Option<Range<usize>> {
    let (key, rest) = path.split_once('.').unwrap_or((path, ""));
    let (_, value) = table.iter().find(|(name, _)| name.get_ref().as_ref() == key)?;
    match value.get_ref() {
        DeValue::Table(inner) if !rest.is_empty() => span(inner, rest),
        _ => Some(value.span()),
    }
}

/// The keys of a table; `None` where there is none.
fn keys(path: &[String]) -> Option<&'static [&'static str]> {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match path.as_slice() {
        [] => Some(fields::<Config>()),
        ["hello"] => Some(fields::<HelloConfig>()),
        ["connections"] => Some(fields::<ConnectionsConfig>()),
        ["store"] => Some(fields::<StoreConfig>()),
        ["metrics"] => Some(fields::<MetricsConfig>()),
        ["limits"] => Some(fields::<Rates>()),
        ["limits", _] => Some(fields::<Rate>()),
        _ => None,
    }
}

/// What may have been meant by an unknown key: a similar one of its table, or the same of another.
fn meant(name: &str, known: &[&'static str]) -> Option<String> {
    let changes = |key: &str| strsim::damerau_levenshtein(name, key);
    let near = known.iter().map(|key| (changes(key), key)).min();
    if let Some((changes, key)) = near
        && changes <= CHANGES_MAX
        && changes < name.len()
    {
        return Some(format!("did you mean {key:?}?"));
    }
    let tables = ["hello", "connections", "store", "metrics", "limits"];
    let holds = |table: &str| keys(&[table.to_owned()]).is_some_and(|keys| keys.contains(&name));
    if let Some(table) = tables.into_iter().find(|table| holds(table)) {
        return Some(format!("it belongs to [{table}]"));
    }
    Some(format!("there are {}", known.join(", ")))
}

/// The names of a type's fields, as serde reads them.
fn fields<T: Deserialize<'static>>() -> &'static [&'static str] {
    let mut names: &'static [&'static str] = &[];
    // Always an error: there is nothing to read.
    let _ = T::deserialize(Fields(&mut names));
    names
}

/// Reads nothing, and notes what was asked for.
struct Fields<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Fields<'_> {
    type Error = de::value::Error;

    fn deserialize_any<V: de::Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(de::Error::custom("nothing is here"))
    }

    fn deserialize_struct<V: de::Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        *self.0 = fields;
        self.deserialize_any(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `LINE:COLUMN message` of each problem.
    fn problems(text: &str) -> Vec<String> {
        let problems = read(text).expect_err("something is wrong");
        let place = |at: Option<usize>| at.map_or("-".to_owned(), |at| at.to_string());
        let shown = |p: Problem| {
            let hint = p.hint.unwrap_or_default();
            format!("{}:{} {} {hint}", place(p.line), place(p.column), p.message)
        };
        problems.into_iter().map(shown).collect()
    }

    #[track_caller]
    fn assert_one(text: &str, words: &[&str]) {
        let problems = problems(text);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(words.iter().all(|word| problems[0].contains(word)), "{problems:?}");
    }

    #[test]
    fn every_unknown_key_is_told_with_what_was_meant() {
        let text = "lisen = \"[::]:1\"\n\n[hello]\nintervall_min_ms = 1\nmax = 7\nnonsense = 1\n\
                    [limits.searches]\nburst = 1\nevery = 2\n";
        let found = problems(text);
        let expected = [
            ["1:1 unknown key \"lisen\"", "did you mean \"listen\"?"],
            [
                "4:1 unknown key \"intervall_min_ms\" in [hello]",
                "did you mean \"interval_min_ms\"?",
            ],
            ["5:1 unknown key \"max\" in [hello]", "it belongs to [connections]"],
            [
                "6:1 unknown key \"nonsense\" in [hello]",
                "there are interval_min_ms, hello_per_second_max",
            ],
            ["9:1 unknown key \"every\" in [limits.searches]", "did you mean \"every_ms\"?"],
        ];
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for words in expected {
            assert!(
                found.iter().any(|f| words.iter().all(|w| f.contains(w))),
                "{words:?}: {found:#?}"
            );
        }
    }

    #[test]
    fn syntax_types_and_ranges_are_told_at_their_place() {
        assert_one("listen = \n", &["1:"]);
        assert_one("\n  registration = \"openn\"", &["2:18", "openn", "closed"]);
        assert_one("[connections]\nmax = \"many\"", &["2:7", "invalid type"]);
        assert_one("[connections]\nmax = 0", &["2:7", "1 to"]);
        assert_one("[hello]\ninterval_min_ms = 99", &["2:19", "100 to 600000"]);
        assert_one("[store]\nhang_limit_s = 0", &["2:16", "1 to"]);
        assert_one("[limits]\nsearches = { burst = 0, every_ms = 1 }", &["2:", "zero"]);
        for listen in ["4700", "host", "host:port", ":1", "[::1:4700", "a:b:1", "host:99999"] {
            assert_one(&format!("listen = {listen:?}"), &["1:10", "HOST:PORT"]);
        }
        assert_one("[metrics]\nlisten = \"0.0.0.0:9470\"", &["2:10", "0.0.0.0:9470", "loopback"]);
    }

    #[test]
    fn whatever_is_wrong_is_told_at_once_and_in_order() {
        let text = "listen = \"nonsense\"\nregistration = 7\n[connections]\nmax = 0\nper_source_max = []\n\
                    [limits]\nsearches = { burst = 1 }\nrequests = { burst = \"a\", every_ms = \"b\" }\n\
                    colour = 1\n[store]\nhang_limit_s = 0\n[metrics]\nlisten = 1\n";
        let found = problems(text);
        let places =
            ["1:10", "2:16", "4:7", "5:18", "7:12", "8:22", "8:38", "9:1", "11:16", "13:10"];
        assert_eq!(found.len(), places.len(), "{found:#?}");
        for (found, place) in found.iter().zip(places) {
            assert!(found.starts_with(&format!("{place} ")), "{place}: {found}");
        }
    }
}
