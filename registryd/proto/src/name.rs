//! Names of users and rooms: 1 to 32 bytes of `[a-z0-9._-]`, beginning with a letter or a digit.
//!
//! The first byte is narrower than the rest so that no name looks like an option (`-x`) or a folder
//! (`.`, `..`). A value of these types has passed the check; nothing else may build one.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The longest name in bytes.
pub const NAME_BYTES_MAX: usize = 32;

/// Why a text is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Empty, or longer than [`NAME_BYTES_MAX`].
    #[error("a name has 1 to {NAME_BYTES_MAX} characters")]
    Length,
    /// The first character is no letter and no digit.
    #[error("a name begins with a lower-case letter or a digit")]
    First,
    /// A character outside `[a-z0-9._-]`.
    #[error("a name holds lower-case letters, digits, '.', '_' and '-' only")]
    Character,
}

fn check(text: &str) -> Result<(), NameError> {
    if text.is_empty() || text.len() > NAME_BYTES_MAX {
        return Err(NameError::Length);
    }
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
    if !text.bytes().all(allowed) {
        return Err(NameError::Character);
    }
    if b"._-".contains(&text.as_bytes()[0]) {
        return Err(NameError::First);
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text: safe to print, to store and to compare.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                check(text)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                check(&text)?;
                Ok(Self(text))
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// The name of an account.
    Username
);
name!(
    /// The name of a room.
    RoomName
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_strict_alphabet_pass() {
        for name in ["a", "7", "bob", "a.b_c-d", &"x".repeat(32)] {
            assert_eq!(name.parse::<Username>().expect(name).as_str(), name);
        }
    }

    #[test]
    fn hostile_names_are_refused() {
        let long = "x".repeat(33);
        let cases = [
            ("", NameError::Length),
            (long.as_str(), NameError::Length),
            ("-rf", NameError::First),
            ("..", NameError::First),
            ("Bob", NameError::Character),
            ("a b", NameError::Character),
            ("a\n", NameError::Character),
            ("a\u{202e}", NameError::Character),
            ("a/b", NameError::Character),
            ("'; drop", NameError::Character),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<RoomName>(), Err(error), "{text:?}");
        }
    }

    #[test]
    fn json_cannot_bypass_the_check() {
        assert!(serde_json::from_str::<Username>(r#""a b""#).is_err());
    }
}
