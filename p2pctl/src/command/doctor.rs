//! `doctor`: checks the way from here to the registry, step by step.
//!
//! A check whose ground is missing is not made. The exit code is that of the first check that failed.

use p2pchat_host::terminal::Escaped;
use peerd_proto::control::{self, SessionState, StatusAnswer};
use registryd_proto::Code;
use serde::Serialize;

use crate::{
    command::{status, version},
    context::Context,
    error::Error,
    exit::Exit,
    show::{Show, Text},
};

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// The answer.
#[derive(Debug, Serialize)]
struct Findings {
    healthy: bool,
    checks: Vec<Check>,
}

/// One step of the way.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    /// `None`: it is so.
    code: Option<Code>,
    /// What was found.
    found: String,
}

impl Show for Findings {
    fn schema(&self) -> &'static str {
        "doctor"
    }

    fn show(&self, text: &mut Text) {
        for check in &self.checks {
            let mark = if check.code.is_none() { "ok  " } else { "FAIL" };
            let (name, found) = (check.name, Escaped::new(&check.found));
            text.line(format_args!("{} {name:13} {found}", text.bold(mark)));
        }
    }
}

/// Carries the verb out.
///
/// # Errors
/// [`Error::Stdout`]; what is wrong otherwise is the answer.
pub async fn run(_: Args, context: &mut Context<'_>) -> Result<Exit, Error> {
    let checks = examine(context).await;
    let failed = checks.iter().find_map(|check| check.code);
    context.output.answer(&Findings { healthy: failed.is_none(), checks })?;
    Ok(failed.map_or(Exit::Done, Exit::Code))
}

async fn examine(context: &Context<'_>) -> Vec<Check> {
    let mut checks = Vec::new();
    let answer = match context.call(control::Version {}).await {
        Ok(answer) => answer,
        Err(error) => {
            checks.push(failed("peerd", &error));
            return checks;
        }
    };
    checks.push(Check { name: "peerd", code: None, found: format!("version {}", answer.peerd) });
    match version::check(answer.api) {
        Ok(()) => {
            let found = format!("version {}", answer.api);
            checks.push(Check { name: "local API", code: None, found });
        }
        Err(error) => {
            checks.push(failed("local API", &error));
            return checks;
        }
    }
    match context.call(control::Status {}).await {
        Ok(status) => checks.extend(of_status(&status)),
        Err(error) => checks.push(failed("status", &error)),
    }
    checks
}

fn failed(name: &'static str, error: &Error) -> Check {
    let report = error.report();
    Check { name, code: Some(report.code), found: format!("{} ({})", report.message, report.hint) }
}

fn of_status(status: &StatusAnswer) -> Vec<Check> {
    let user = status.username.as_ref().map_or("no account", |user| user.as_str());
    let session = match status::session_health(status.session) {
        Exit::Code(code) if code != Code::RegistryUnreachable => Check {
            name: "session",
            code: Some(code),
            found: format!("{user}: {}", code.as_str().replace('_', " ")),
        },
        Exit::Done | Exit::Code(_) => {
            Check { name: "session", code: None, found: format!("logged in as {user}") }
        }
    };
    let disk = Check {
        name: "disk",
        code: status.disk_full.then_some(Code::RateLimited),
        found: if status.disk_full { "full: only reading works" } else { "takes writes" }
            .to_owned(),
    };
    if session.code.is_some() {
        return vec![disk, session];
    }
    let offline = status.session == SessionState::Offline;
    let address = status.registry.as_ref().map_or_else(String::new, ToString::to_string);
    let registry = Check {
        name: "registry",
        code: offline.then_some(Code::RegistryUnreachable),
        found: if offline { format!("{address} does not answer") } else { address },
    };
    let listener = |name, address: Option<std::net::SocketAddr>| Check {
        name,
        code: address.is_none().then_some(Code::Internal),
        found: address.map_or_else(|| "closed".to_owned(), |address| address.to_string()),
    };
    vec![
        disk,
        session,
        registry,
        listener("peer listener", status.peer_listener),
        listener("room listener", status.room_listener),
    ]
}
