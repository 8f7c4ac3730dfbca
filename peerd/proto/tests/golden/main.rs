//! Golden files: the exact bytes of every message of the control API and of the links, for ever.
//!
//! Each value built here must encode to its file and decode from it. A file is written once, by
//! `UPDATE=1 cargo test -p peerd-proto --test golden`, which never touches one that exists: a changed file
//! is a changed protocol.

use std::{collections::BTreeSet, fmt::Debug, fs, path::PathBuf};

use registryd_proto::{Keypair, Username};
use serde::{Serialize, de::DeserializeOwned};

mod control;
mod wire;

const NOW_MS: u64 = 1_795_341_600_000;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden")
}

fn check_text(file: &str, text: &str) -> String {
    let path = folder().join(file);
    if std::env::var_os("UPDATE").is_some() && !path.exists() {
        fs::write(&path, text).expect("the golden folder is writable");
    }
    let golden = fs::read_to_string(&path).unwrap_or_else(|e| panic!("golden {file}: {e}"));
    assert_eq!(text, golden, "{file}");
    golden
}

fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, value: &T) {
    let mut json = serde_json::to_string_pretty(value).expect("plain");
    json.push('\n');
    let golden = check_text(&format!("{name}.json"), &json);
    assert_eq!(&serde_json::from_str::<T>(&golden).expect(name), value, "{name}");
}

/// The golden files of one kind, without their endings.
fn on_disk(prefix: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(folder()).expect("golden folder");
    let names = entries.map(|e| e.expect("entry").file_name().to_string_lossy().into_owned());
    names
        .filter_map(|n| n.split_once('.').map(|(stem, _)| stem.to_owned()))
        .filter(|n| n.starts_with(prefix))
        .collect()
}

fn keys(seed: u8) -> Keypair {
    Keypair::from_secret(&[seed; 32])
}

fn bob() -> Username {
    "bob".parse().expect("name")
}
