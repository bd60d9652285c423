//! Regular expressions of the schema, as the API server reads them: `\d` and `\s` are ASCII in Go and in `regex-lite`. Pure.

use regex_lite::{Error, Regex};

/// A pattern of the schema.
pub(crate) fn pattern(text: &str) -> Result<Regex, Error> {
    Regex::new(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_and_spaces_are_ascii() {
        let matches = |text: &str, value: &str| pattern(text).unwrap().is_match(value);
        assert!(matches(r"^\d{2}$", "10") && !matches(r"^\d$", "\u{661}"));
        assert!(matches(r"^[\d.]+$", "1.0") && !matches(r"^[^\s]$", " ") && matches(r"^[^\s]$", "\u{a0}"));
        assert!(matches(r"^[^/\\]+$", "a") && !matches(r"^[^/\\]+$", "\\"));
        assert!(!matches(r"^[^/\\[:cntrl:]]+$", "a\nb") && !matches(r"^[^/\\[:cntrl:]]+$", "a/b"));
        assert!(matches(r"^[^/\\[:cntrl:]]+$", "a b:[n]"));
    }
}
