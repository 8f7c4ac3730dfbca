//! `version`: tells the versions of p2pctl and peerd, and whether they fit.

use p2pchat_host::terminal::Escaped;
use peerd_proto::control::{self, API_VERSION};
use serde::Serialize;

use crate::{
    context::Context,
    error::Error,
    exit::Exit,
    show::{Show, Text},
    socket::SocketError,
};

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// The answer.
#[derive(Debug, Serialize)]
struct Versions {
    p2pctl: &'static str,
    /// `None`: it does not run.
    peerd: Option<String>,
    api: u32,
}

impl Show for Versions {
    fn schema(&self) -> &'static str {
        "version"
    }

    fn show(&self, text: &mut Text) {
        text.line(format_args!("p2pctl {}", self.p2pctl));
        match &self.peerd {
            Some(peerd) => text.line(format_args!("peerd  {}", Escaped::new(peerd))),
            None => text.line(format_args!("peerd  is not running")),
        }
        text.line(format_args!("local API {}", self.api));
    }
}

/// Carries the verb out.
///
/// # Errors
/// [`Error`]; [`Error::Version`] where the two do not fit.
pub async fn run(_: Args, context: &mut Context<'_>) -> Result<Exit, Error> {
    let peerd = match context.call(control::Version {}).await {
        Ok(answer) => {
            check(answer.api)?;
            Some(answer.peerd)
        }
        Err(Error::Socket(SocketError::NotRunning(_))) => None,
        Err(error) => return Err(error),
    };
    let (p2pctl, api) = (env!("CARGO_PKG_VERSION"), API_VERSION);
    context.output.answer(&Versions { p2pctl, peerd, api })?;
    Ok(Exit::Done)
}

/// Whether peerd's local API is the one that p2pctl speaks.
///
/// # Errors
/// [`Error::Version`].
pub fn check(theirs: u32) -> Result<(), Error> {
    let ours = API_VERSION;
    if theirs == ours { Ok(()) } else { Err(Error::Version { ours, theirs }) }
}
