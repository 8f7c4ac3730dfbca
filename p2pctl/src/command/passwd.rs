//! `passwd`: changes the password. From a file or stdin: the old one in the first line, the new one in the
//! second.

use p2pchat_host::password::{PasswordOptions, Prompt};
use peerd_proto::control;

use crate::{context::Context, error::Error, exit::Exit, password};

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where the passwords come from.
    #[command(flatten)]
    pub password: PasswordOptions,
}

/// Carries the verb out.
///
/// # Errors
/// [`Error`].
pub async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Error> {
    let [old, new] = password::of_account(
        &args.password,
        [
            Prompt { label: "Old password", twice: false },
            Prompt { label: "New password", twice: true },
        ],
    )?;
    context.simple(control::Passwd { old, new }).await
}
