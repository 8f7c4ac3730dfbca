//! `status`: tells how peerd is. The answer is printed in any case; the exit code is its health.

use peerd_proto::control::{self, SessionState, StatusAnswer};
use registryd_proto::Code;

use crate::{context::Context, error::Error, exit::Exit};

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Carries the verb out.
///
/// # Errors
/// [`Error`], where there is no answer at all.
pub async fn run(_: Args, context: &mut Context<'_>) -> Result<Exit, Error> {
    let status = context.call(control::Status {}).await?;
    context.output.answer(&status)?;
    Ok(health(&status))
}

/// What the state means as an exit code.
pub fn health(status: &StatusAnswer) -> Exit {
    if status.disk_full { Exit::Code(Code::RateLimited) } else { session_health(status.session) }
}

/// What a session's state means as an exit code.
pub fn session_health(session: SessionState) -> Exit {
    match session {
        SessionState::Online => Exit::Done,
        SessionState::Offline => Exit::Code(Code::RegistryUnreachable),
        SessionState::LoggedOut => Exit::Code(Code::NotLoggedIn),
        SessionState::Superseded => Exit::Code(Code::Superseded),
    }
}
