//! What keeps text of others from acting on the terminal.
//!
//! Everything that a peer, a registry or peerd wrote goes through [`Escaped`] (text for people) or
//! [`json_line`] (JSON) before it is written: no control character, no bidi control, nothing invisible and
//! no line break inside a field comes out. Text that has passed is plain characters, each shown where it
//! stands.

use std::{
    borrow::Cow,
    fmt::{self, Write},
};

/// A text of unknown origin. Invariant: its only way out is `Display`, which escapes.
#[derive(Clone, Copy)]
pub struct Escaped<'a>(&'a str);

impl<'a> Escaped<'a> {
    /// Takes any text.
    pub fn new(text: &'a str) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '\n' => f.write_str("\\n")?,
                '\r' => f.write_str("\\r")?,
                '\t' => f.write_str("\\t")?,
                c if is_hostile(c) => write!(f, "\\u{{{:x}}}", u32::from(c))?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// A text of several lines, each escaped: its line breaks stay.
pub fn escaped_lines(text: &str) -> String {
    text.lines().map(|line| Escaped::new(line).to_string()).collect::<Vec<_>>().join("\n")
}

/// Makes a line of JSON harmless without changing what it says: hostile characters, which can stand only
/// inside its strings, are written as `\uXXXX`.
pub fn json_line(json: &str) -> Cow<'_, str> {
    if !json.chars().any(is_hostile) {
        return Cow::Borrowed(json);
    }
    let mut line = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if is_hostile(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                line.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            line.push(c);
        }
    }
    Cow::Owned(line)
}

/// Whether a character moves, hides or reorders what is shown.
pub fn is_hostile(c: char) -> bool {
    c.is_control() || is_bidi_control(c) || is_invisible(c)
}

fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{206f}')
}

/// Zero-width characters, blank letters, line and paragraph separators, tags.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{34f}'
            | '\u{115f}'
            | '\u{1160}'
            | '\u{17b4}'
            | '\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200d}'
            | '\u{2028}'
            | '\u{2029}'
            | '\u{2060}'..='\u{2065}'
            | '\u{3164}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn no_character_at_all_comes_out_hostile() {
        for c in '\0'..=char::MAX {
            let text = c.to_string();
            let escaped = Escaped::new(&text).to_string();
            assert!(!escaped.chars().any(is_hostile), "{:x}", u32::from(c));
            assert_eq!(escaped == text, !is_hostile(c), "{:x}", u32::from(c));
        }
    }

    #[test]
    fn the_known_attacks_are_hostile() {
        let attacks = [
            '\0',
            '\x07',
            '\x08',
            '\n',
            '\r',
            '\x1b',
            '\x7f',
            '\u{80}',
            '\u{9b}',
            '\u{9f}',
            '\u{200b}',
            '\u{200d}',
            '\u{202e}',
            '\u{2066}',
            '\u{2069}',
            '\u{2028}',
            '\u{feff}',
            '\u{61c}',
            '\u{e0041}',
        ];
        for c in attacks {
            assert!(is_hostile(c), "{:x}", u32::from(c));
        }
    }

    #[test]
    fn ordinary_text_of_any_language_stays() {
        for text in ["hello, world", "héllo", "שלום", "日本語", "👍", "a\\b"] {
            assert_eq!(Escaped::new(text).to_string(), text);
        }
    }

    #[test]
    fn lines_stay_lines() {
        assert_eq!(escaped_lines("one\r\n\ttwo\n\u{202e}three\n"), "one\n\\ttwo\n\\u{202e}three");
    }

    proptest! {
        #[test]
        fn escaped_text_is_one_harmless_line(text in any::<String>()) {
            let escaped = Escaped::new(&text).to_string();
            prop_assert!(!escaped.chars().any(is_hostile));
            prop_assert_eq!(Escaped::new(&escaped).to_string(), escaped.clone());
        }

        #[test]
        fn json_says_the_same_and_is_harmless(text in any::<String>()) {
            let json = serde_json::to_string(&text).expect("text");
            let line = json_line(&json);
            prop_assert!(!line.chars().any(is_hostile));
            prop_assert_eq!(serde_json::from_str::<String>(&line).expect("JSON"), text);
        }
    }
}
