//! `create-account`: makes a new account at a registry, bound to the keys of the profile.

use p2pchat_host::password::PasswordOptions;
use peerd_proto::control;
use registryd_proto::{RegistryAddress, Username};

use crate::{context::Context, error::Error, exit::Exit, password};

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The name wanted
    #[arg(value_name = "USER")]
    pub username: Username,
    /// The registry; without KEY its key is pinned on first use
    #[arg(long, value_name = "[KEY@]HOST:PORT")]
    pub registry: RegistryAddress,
    /// Where registration is by invite
    #[arg(long, value_name = "CODE")]
    pub invite: Option<String>,
    /// Where the password comes from.
    #[command(flatten)]
    pub password: PasswordOptions,
}

/// Carries the verb out.
///
/// # Errors
/// [`Error`].
pub async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Error> {
    let password = password::one(&args.password, "Password", true)?;
    let Args { username, registry, invite, .. } = args;
    context.simple(control::CreateAccount { username, registry, password, invite }).await
}
