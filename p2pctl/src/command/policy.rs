//! `policy`: tells or sets what a user may do without a chat.
//!
//! ```text
//! p2pctl policy                      the default for unknown users
//! p2pctl policy bob                  what holds for bob
//! p2pctl policy bob allow            sets it
//! p2pctl policy --default block      sets the default
//! ```

use clap::ValueEnum;
use peerd_proto::control::{self, PolicyName};
use registryd_proto::Username;

use crate::{context::Context, error::Error, exit::Exit};

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Whose; without: the default for unknown users
    #[arg(value_name = "USER", conflicts_with = "default")]
    pub username: Option<Username>,
    /// The new policy
    #[arg(conflicts_with = "default")]
    pub policy: Option<PolicyWord>,
    /// Tell the default for unknown users, or set it
    #[arg(long, value_name = "POLICY", num_args = 0..=1)]
    pub default: Option<Option<PolicyWord>>,
}

/// A policy, as typed.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum PolicyWord {
    /// Messages are taken at once
    Allow,
    /// Messages wait at the sender until accept or reject
    Ask,
    /// Nothing is taken
    Block,
}

/// Carries the verb out.
///
/// # Errors
/// [`Error`].
pub async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Error> {
    let word = args.policy.or(args.default.flatten());
    let policy = word.map(|word| match word {
        PolicyWord::Allow => PolicyName::Allow,
        PolicyWord::Ask => PolicyName::Ask,
        PolicyWord::Block => PolicyName::Block,
    });
    context.simple(control::Policy { username: args.username, policy }).await
}
