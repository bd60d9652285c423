//! Removes deep nesting from the JSON that the API server sends.
//!
//! Some fields of a Version accept any JSON, and the API server stores 10,000 levels of it. `serde_json` refuses a text with 128:
//! one such object would hide all others of its list, and could not be deleted. Whatever a decision reads is nested less deeply.

use bytes::Bytes;

/// The levels of a text that are kept.
const DEEPEST: usize = 64;

/// What is known between two chunks of a text.
#[derive(Debug, Default)]
pub(super) struct Shallow {
    depth: usize,
    in_string: bool,
    is_escaped: bool,
}

impl Shallow {
    /// The next chunk, with `null` in place of each value that is nested too deeply. It is copied only if there is one.
    pub(super) fn cut(&mut self, chunk: Bytes) -> Bytes {
        let mut kept = Vec::new();
        // Where the part begins that is kept and not copied yet.
        let mut from = (self.depth <= DEEPEST).then_some(0);
        for (at, &byte) in chunk.iter().enumerate() {
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' => self.is_escaped = self.in_string,
                b'"' => self.in_string = !self.in_string,
                _ if self.in_string => {}
                b'{' | b'[' => {
                    self.depth += 1;
                    if let Some(start) = from.take_if(|_| self.depth > DEEPEST) {
                        kept.extend_from_slice(&chunk[start..at]);
                        kept.extend_from_slice(b"null");
                    }
                }
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == DEEPEST {
                        from = Some(at + 1);
                    }
                }
                _ => {}
            }
        }
        match from {
            Some(0) => return chunk,
            Some(start) => kept.extend_from_slice(&chunk[start..]),
            None => {}
        }
        kept.into()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// The text in chunks of this size, each cut.
    fn cut(text: &str, size: usize) -> String {
        let mut shallow = Shallow::default();
        let chunks = text.as_bytes().chunks(size).map(Bytes::copy_from_slice);
        let cut: Vec<u8> = chunks.flat_map(|chunk| shallow.cut(chunk)).collect();
        String::from_utf8(cut).unwrap()
    }

    /// Two lines, as in a watch, the first with a value of so many levels.
    fn text(levels: usize, inner: &str) -> String {
        // Braces, quotes and backslashes within a string are no nesting.
        let odd = r#""}]\"{\\\"[{[""#;
        let (open, close) = ("[".repeat(levels), "]".repeat(levels));
        format!("{{\"a\":{odd},\"b\":{open}{inner}{close},{odd}:{{}}}}\n[{odd}]\n")
    }

    #[test]
    fn a_value_that_is_nested_too_deeply_is_null_however_the_text_arrives() {
        // The object itself is one level.
        let most = DEEPEST - 1;
        for (levels, kept) in [
            (0, text(0, "1")),
            (most, text(most, "1")),
            (most + 1, text(most, "null")),
            (200, text(most, "null")),
            (10_000, text(most, "null")),
        ] {
            for size in [1, 2, 3, 7, 1 << 20] {
                assert_eq!(cut(&text(levels, "1"), size), kept, "{levels} levels in chunks of {size}");
            }
        }
        let line = text(most, "null").lines().next().map(str::to_owned).unwrap();
        serde_json::from_str::<Value>(&line).unwrap();
    }

    #[test]
    fn an_ordinary_text_is_not_copied() {
        let chunk = Bytes::from(json!({"spec": {"versions": [{"version": "1.0.0"}]}}).to_string());
        assert_eq!(Shallow::default().cut(chunk.clone()).as_ptr(), chunk.as_ptr());
    }
}
