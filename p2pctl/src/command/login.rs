//! `login`: proves the password, opens both listeners, comes online.

use p2pchat_host::password::PasswordOptions;
use peerd_proto::control;
use registryd_proto::{RegistryAddress, Username};

use crate::{context::Context, error::Error, exit::Exit, password};

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The account
    #[arg(value_name = "USER")]
    pub username: Username,
    /// The registry; default: the one that the profile belongs to
    #[arg(long, value_name = "[KEY@]HOST:PORT")]
    pub registry: Option<RegistryAddress>,
    /// UDP port of the peer listener; 0: any [default: the one used last]
    #[arg(long, value_name = "PORT")]
    pub peer_port: Option<u16>,
    /// UDP port of the room listener; 0: any [default: the one used last]
    #[arg(long, value_name = "PORT")]
    pub room_port: Option<u16>,
    /// Log in though another device is online; that one is superseded
    #[arg(long)]
    pub takeover: bool,
    /// Where the password comes from.
    #[command(flatten)]
    pub password: PasswordOptions,
}

/// Carries the verb out.
///
/// # Errors
/// [`Error`].
pub async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Error> {
    let password = password::one(&args.password, "Password", false)?;
    let Args { username, registry, peer_port, room_port, takeover, .. } = args;
    let login = control::Login { username, registry, password, peer_port, room_port, takeover };
    context.simple(login).await
}
