//! Passwords of the account and of rooms, from the sources of [`p2pchat_host::password`] and the credential
//! `$CREDENTIALS_DIRECTORY/p2pchat-password` of systemd.

use std::{env, path::PathBuf};

use p2pchat_host::password::{PasswordError, PasswordOptions, Prompt};
use registryd_proto::Password;

/// The name of the systemd credential.
pub const CREDENTIAL: &str = "p2pchat-password";

/// Gets as many passwords of the account as there are prompts, in their order. Blocks.
///
/// # Errors
/// [`PasswordError`].
pub fn of_account<const N: usize>(
    options: &PasswordOptions,
    prompts: [Prompt<'_>; N],
) -> Result<[Password; N], PasswordError> {
    options.read(prompts, credential().as_deref())
}

/// The usual case.
///
/// # Errors
/// [`PasswordError`].
pub fn one(options: &PasswordOptions, label: &str, twice: bool) -> Result<Password, PasswordError> {
    let [password] = of_account(options, [Prompt { label, twice }])?;
    Ok(password)
}

/// The password of a room; the credential is the account's and does not count.
///
/// # Errors
/// [`PasswordError`].
pub fn of_room(
    options: &PasswordOptions,
    label: &str,
    twice: bool,
) -> Result<Password, PasswordError> {
    let [password] = options.read([Prompt { label, twice }], None)?;
    Ok(password)
}

fn credential() -> Option<PathBuf> {
    let folder = env::var_os("CREDENTIALS_DIRECTORY").filter(|folder| !folder.is_empty())?;
    Some(PathBuf::from(folder).join(CREDENTIAL)).filter(|path| path.exists())
}
