//! The table of faults: each row has tests, and they are there.

use std::{collections::BTreeSet, fs};

use crate::source::{assert_none, root, rust};

/// How many rows the table has.
const ROWS: u32 = 30;

/// The rows of the table in the header of `tests/faults/main.rs`: number and names of tests.
fn table() -> Vec<(u32, Vec<String>)> {
    let text = fs::read_to_string(root().join("tests/faults/main.rs")).expect("the table is there");
    let rows = text.lines().filter_map(|line| line.strip_prefix("//! |"));
    rows.filter_map(|row| {
        let mut cells = row.split('|').map(str::trim);
        let number = cells.next()?.parse().ok()?;
        let names = cells.nth(1)?.split('`').skip(1).step_by(2);
        Some((number, names.map(str::to_owned).collect()))
    })
    .collect()
}

/// The names of all functions behind a `#[test]` or `#[tokio::test]`.
fn tests() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for source in rust() {
        let mut marked = false;
        for (_, line) in source.code() {
            let line = line.trim();
            if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
                marked = true;
            } else if let Some(name) = function(line).filter(|_| marked) {
                found.insert(name.to_owned());
                marked = false;
            }
        }
    }
    found
}

fn function(line: &str) -> Option<&str> {
    let (before, rest) = line.split_once("fn ")?;
    let is_head = before.split_whitespace().all(|word| word == "async" || word.starts_with("pub"));
    is_head.then(|| rest.split(['(', '<']).next().unwrap_or(rest))
}

#[test]
fn every_row_of_the_table_of_faults_has_a_test_that_exists() {
    let (table, tests) = (table(), tests());
    let numbers: Vec<u32> = table.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, (1..=ROWS).collect::<Vec<_>>(), "each row once and in order");
    let empty = table.iter().filter(|(_, names)| names.is_empty());
    let empty: Vec<String> = empty.map(|(number, _)| number.to_string()).collect();
    assert_none("rows without a test", &empty);
    let named = table.iter().flat_map(|(number, names)| names.iter().map(move |n| (number, n)));
    let missing: Vec<String> = named
        .filter(|(_, name)| !tests.contains(*name))
        .map(|(number, name)| format!("{number}: {name}"))
        .collect();
    assert_none("tests that are in the table and nowhere else", &missing);
}
