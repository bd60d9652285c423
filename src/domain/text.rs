//! Texts: cut to a length, in the plural, encoded, made visible, and the chain of an error.

use std::error::Error;
use std::fmt::Write as _;

/// The start of the last sentence of a failure's message, if that is about the next attempt. The time follows.
pub const NEXT_ATTEMPT: &str = "Next attempt at ";

/// At most `max` bytes of `text`, cut at a character, with a mark if something is missing.
pub fn cut(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(max.saturating_sub(3))])
}

/// A count with its noun, such as `1 version` or `2 versions`.
pub fn plural(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// A text as a sentence, so that another can follow it.
pub fn sentence(text: &str) -> String {
    let text = text.trim_end();
    let is_ended = text.is_empty() || text.ends_with(['.', '!', '?', '…']);
    if is_ended { text.to_owned() } else { format!("{text}.") }
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut hex, byte| {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Percent-encodes the bytes that are not `plain`.
pub fn percent_encoded(text: &str, plain: impl Fn(u8) -> bool) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        if plain(byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

/// An error and its sources, the outermost first.
pub fn error_chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// Whether a character changes the direction in which the text around it is read.
pub fn is_bidi_control(character: char) -> bool {
    matches!(
        character,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}

/// A foreign name as it may appear in a message: printable, and at most 200 characters. What cannot be seen, or would change how
/// its surroundings are read, is written as an escape; so are bytes that are not UTF-8.
pub fn shown(name: &[u8]) -> String {
    const LONGEST: usize = 200;
    let mut safe: String = escaped(name).take(LONGEST).collect();
    if escaped(name).nth(LONGEST).is_some() {
        safe.pop();
        safe.push('…');
    }
    safe
}

fn escaped(name: &[u8]) -> impl Iterator<Item = char> {
    name.utf8_chunks().flat_map(|chunk| {
        let text = chunk.valid().chars().flat_map(|character| {
            // Rust does not escape these, although they look like spaces or are invisible.
            let blank = matches!(
                character,
                '\u{115f}' | '\u{1160}' | '\u{2800}' | '\u{3164}' | '\u{ffa0}' | '\u{1d159}'
            );
            let unicode = blank.then(|| character.escape_unicode()).into_iter().flatten();
            unicode.chain((!blank).then(|| character.escape_debug()).into_iter().flatten())
        });
        text.chain(chunk.invalid().escape_ascii().map(char::from))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_ends_once() {
        for (text, expected) in
            [("", ""), ("no", "no."), ("no.\n", "no."), ("why? ", "why?"), ("a page…", "a page…")]
        {
            assert_eq!(sentence(text), expected);
        }
    }

    #[test]
    fn a_name_in_a_message_is_what_it_looks_like() {
        let cases: [(&[u8], &str); 10] = [
            (b"main.tf", "main.tf"),
            ("größe/日本語".as_bytes(), "größe/日本語"),
            (b"caf\xe9.txt", r"caf\xe9.txt"),
            (b"Icon\r", r"Icon\r"),
            (b"a\nb\0", r"a\nb\0"),
            (b"old\\a", r"old\\a"),
            ("a\u{202e}b\u{2066}".as_bytes(), r"a\u{202e}b\u{2066}"),
            ("a\u{200b}\u{feff}\u{ad}\u{2060}".as_bytes(), r"a\u{200b}\u{feff}\u{ad}\u{2060}"),
            ("\u{3164}\u{2800}\u{a0}".as_bytes(), r"\u{3164}\u{2800}\u{a0}"),
            ("\u{fe0f}\u{e0041}".as_bytes(), r"\u{fe0f}\u{e0041}"),
        ];
        for (name, expected) in cases {
            assert_eq!(shown(name), expected);
        }
        assert_eq!(shown(&[b'x'; 200]), "x".repeat(200));
        assert_eq!(shown(&[b'x'; 201]), "x".repeat(199) + "…");
    }
}
