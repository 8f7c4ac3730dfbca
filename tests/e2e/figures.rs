//! The measurements of a registry go on working: a small run of them, of which only the form is looked at.

use std::{fs, process::Command};

use harness::binaries;
use serde_json::Value;

const SECTIONS: [&str; 11] = [
    "## What must be shown",
    "## HELLO",
    "## Memory of the registry",
    "## Search against accounts",
    "## Search against sessions",
    "## Search while all say HELLO",
    "## Redis",
    "## All online",
    "## Restart",
    "## Passwords at once",
    "-restart.svg)",
];

#[test]
fn a_small_run_of_the_registry_figures_tells_all_there_is_to_tell() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let report = folder.path().join("small.md");
    let programs = binaries().registryd.parent().expect("a program is in a folder");
    let output = Command::new(env!("CARGO_BIN_EXE_bench"))
        .args(["registry", "--sessions", "200", "--accounts", "200", "--for", "2s"])
        .args(["--rounds", "1", "--round", "200ms", "--logins", "20", "--report"])
        .arg(&report)
        .env("P2PCHAT_BINARIES", programs)
        .output()
        .expect("the measurements can be run");
    let told = [output.stderr, output.stdout].concat();
    let told = String::from_utf8_lossy(&told);
    assert!(output.status.success(), "{told}");

    let text = fs::read_to_string(&report).expect("a report for people");
    let missing: Vec<&&str> = SECTIONS.iter().filter(|s| !text.contains(**s)).collect();
    assert!(missing.is_empty(), "{missing:?} is missing in:\n{text}");

    let json = fs::read_to_string(report.with_extension("json")).expect("a report for programs");
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["schema"], "p2pchat.figures.registry/1");
    assert_eq!(json["online"]["different"], 200, "each peer was searched: {json}");
    assert_eq!(json["online"]["offline"], 0, "{json}");
    assert_eq!(json["flood"]["unanswered"], 0, "{json}");
    for figure in [&json["hello"][0]["per_second"], &json["search_accounts"][0]["per_second"]] {
        assert!(figure["min"].as_f64().is_some_and(|n| n > 0.0), "{json}");
    }
    for plot in ["hello", "cpu", "memory", "search-accounts", "search-rate", "restart"] {
        let svg = fs::read_to_string(folder.path().join(format!("small-{plot}.svg")));
        assert!(svg.expect("a drawing").starts_with("<svg"), "{plot}");
    }
}
