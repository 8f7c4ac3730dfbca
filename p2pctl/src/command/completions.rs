//! `completions`: prints the completions of a shell. Needs no peerd.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::{cli::Cli, context::Context, error::Error, exit::Exit};

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which shell
    pub shell: Shell,
}

/// Carries the verb out.
///
/// # Errors
/// [`Error::Stdout`].
pub fn run(args: &Args, context: &mut Context<'_>) -> Result<Exit, Error> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "p2pctl", &mut script);
    context.output.text(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}
