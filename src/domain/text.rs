//! Texts: cut to a length, in the plural, encoded, made visible, the chain of an error, and how YAML is read.

use std::error::Error;
use std::fmt::Write as _;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// The start of the last sentence of a failure's message, if that is about the next attempt. The time follows.
pub const NEXT_ATTEMPT: &str = "Next attempt at ";

/// The longest part of a user's text that a message quotes, in bytes.
pub const LONGEST_EXCERPT: usize = 100;

/// At most `max` bytes of `text`, cut at a character, with a mark if something is missing.
pub fn cut(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(max.saturating_sub(3))])
}

/// A count with its noun, such as `1 version` or `2 versions`.
pub fn plural(count: usize, noun: &str) -> String {
    counted(count, noun, &format!("{noun}s"))
}

/// A count with the words for one or for many, such as `1 file is` or `2 files are`.
pub fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// The first names as far as they fit into about `size` bytes, at least one, and how many are left.
pub fn first_that_fit(names: &[String], separator: &str, size: usize) -> (String, usize) {
    let mut text = String::new();
    for (listed, name) in names.iter().enumerate() {
        if listed > 0 && text.len() + name.len() > size {
            return (text, names.len() - listed);
        }
        text += if listed > 0 { separator } else { "" };
        text += name;
    }
    (text, 0)
}

/// A list of the names that fit into about `size` bytes, and the number of the others: `names` are the first of `total`.
pub fn and_more(names: &[String], size: usize, total: usize) -> String {
    let (text, left) = first_that_fit(names, ", ", size);
    match total.saturating_sub(names.len()) + left {
        0 => text,
        more => format!("{text} and {more} more"),
    }
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

/// One segment of a URL's path. `+`, legal in a path, is encoded too, because GitHub reads it as a space.
pub fn path_segment(text: &str) -> String {
    // All that RFC 3986 does not call unreserved.
    const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    utf8_percent_encode(text, ENCODED).to_string()
}

/// An error and its sources, the outermost first.
pub fn error_chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// The texts of an error and its sources, without those that have occurred before: the first may be only "dispatch failure".
pub fn causes(error: &(dyn Error + 'static)) -> String {
    let parts = error_chain(error).map(ToString::to_string);
    parts
        .reduce(|text, part| if text.contains(&part) { text } else { format!("{text}: {part}") })
        .unwrap_or_default()
}

/// Options for YAML that users write. Errors contain no excerpt, which may show a secret. If comments were kept, more than 32
/// lines of them in one place would be an error.
pub(crate) fn yaml_options() -> serde_yaml::Options {
    serde_yaml::options! { with_snippet: false, emit_comments: false }
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
    const LONGEST_NAME: usize = 200;
    let mut safe: String = escaped(name).take(LONGEST_NAME).collect();
    if escaped(name).nth(LONGEST_NAME).is_some() {
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
