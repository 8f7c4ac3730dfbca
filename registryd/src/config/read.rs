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
/// All that is wrong, at least one; of mistakes that keep the rest from being read, the first.
pub(super) fn read(text: &str) -> Result<Config, Vec<Problem>> {
    let of_toml =
        |error: toml::de::Error| vec![Problem::at(text, error.span(), error.message().trim_end())];
    let document = DeTable::parse(text).map_err(of_toml)?;
    let mut problems = Vec::new();
    unknown_keys(text, document.get_ref(), &mut Vec::new(), &mut problems);
    if !problems.is_empty() {
        problems.sort_by_key(|problem| (problem.line, problem.column));
        return Err(problems);
    }
    let config: Config = toml::from_str(text).map_err(of_toml)?;
    for (path, message) in config.out_of_range() {
        problems.push(Problem::at(text, span(document.get_ref(), path), message));
    }
    if problems.is_empty() { Ok(config) } else { Err(problems) }
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

fn unknown_keys(
    text: &str,
    table: &DeTable<'_>,
    path: &mut Vec<String>,
    problems: &mut Vec<Problem>,
) {
    let Some(known) = keys(path) else { return };
    for (key, value) in table {
        let name = key.get_ref().as_ref();
        if !known.contains(&name) {
            let message = match path.as_slice() {
                [] => format!("unknown key {name:?}"),
                path => format!("unknown key {name:?} in [{}]", path.join(".")),
            };
            let problem = Problem::at(text, Some(key.span()), message);
            problems.push(problem.with_hint(meant(name, known)));
        } else if let DeValue::Table(inner) = value.get_ref() {
            path.push(name.to_owned());
            unknown_keys(text, inner, path, problems);
            path.pop();
        }
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
    fn all_values_out_of_range_are_told_at_once() {
        let found = problems("[connections]\nmax = 0\n[store]\nhang_limit_s = 0\n");
        assert_eq!(found.len(), 2, "{found:?}");
    }
}
