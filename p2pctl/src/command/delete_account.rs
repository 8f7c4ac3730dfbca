//! `delete-account`: deletes the account at the registry. The password is the confirmation.

use p2pchat_host::password::PasswordOptions;
use peerd_proto::control;

use crate::{context::Context, error::Error, exit::Exit, password};

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where the password comes from.
    #[command(flatten)]
    pub password: PasswordOptions,
}

/// Carries the verb out.
///
/// # Errors
/// [`Error`].
pub async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Error> {
    let password = password::one(&args.password, "Password of the account to delete", false)?;
    context.simple(control::DeleteAccount { password }).await
}
