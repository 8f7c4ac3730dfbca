//! The subcommands of the real binary, as an operator calls them.

use std::{
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

/// What a call told.
pub(crate) struct Told {
    pub(crate) code: i32,
    /// The object on stdout, or that of an error on stderr.
    pub(crate) object: Value,
}

/// Calls registryd with `--json`, on a data folder.
pub(crate) fn registryd(folder: &Path, args: &[&str]) -> Told {
    let output = plain(folder, &[&["--json"], args].concat());
    let code = output.status.code().expect("it ended by itself");
    let (answer, silent) = match output.stdout.is_empty() {
        false => (&output.stdout, &output.stderr),
        true => (&output.stderr, &output.stdout),
    };
    assert!(silent.is_empty(), "{output:?}");
    let object = serde_json::from_slice(answer).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    Told { code, object }
}

/// Calls it as it is.
pub(crate) fn plain(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_registryd"));
    command.arg("--data-dir").arg(folder).args(args).output().expect("it can be run")
}

impl Told {
    /// It did what was asked; its answer has this schema.
    #[track_caller]
    pub(crate) fn ok(self, schema: &str) -> Value {
        assert_eq!((self.code, &self.object["schema"]), (0, &schema.into()), "{}", self.object);
        self.object
    }

    /// It failed with this code, and says why.
    #[track_caller]
    pub(crate) fn failed(self, exit_code: i32, code: &str) -> String {
        assert_eq!(self.code, exit_code, "{}", self.object);
        assert_eq!(self.object["schema"], "registryd.error/1");
        assert_eq!(self.object["code"], code, "{}", self.object);
        self.object["message"].as_str().expect("a text").to_owned()
    }
}

/// A path as an argument.
pub(crate) fn arg(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}
