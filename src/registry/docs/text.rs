//! Pieces of source text as they are shown, and whether two of them mean the same.

use aws_lc_rs::digest::{SHA256, digest};
use hcl_edit::Ident;
use hcl_edit::expr::{Expression, Object, ObjectKey};

use crate::domain::text::hex;

/// The longest type, default or description that is kept, in bytes.
const LONGEST_TEXT: usize = 16 << 10;

/// An expression as it is written, without the indentation of its block.
pub(super) fn dedented(source: &str) -> String {
    let text = source.trim();
    // The first line begins behind its key.
    let Some((first, rest)) = text.split_once('\n') else { return cut(text.to_owned()) };
    cut(format!("{}\n{}", first.trim_end(), unindented(rest)))
}

/// A text without the indentation that all of its lines have.
pub(super) fn unindented(text: &str) -> String {
    // Other white space has several bytes: lines that begin with it and with blanks could be cut within a character.
    let indent_of = |line: &str| line.len() - line.trim_start_matches([' ', '\t']).len();
    let indent = text.lines().filter(|line| !line.trim().is_empty()).map(indent_of).min().unwrap_or(0);
    let lines = text.lines().map(|line| line[indent.min(indent_of(line))..].trim_end());
    lines.collect::<Vec<_>>().join("\n")
}

/// The beginning of a text that is too long, with a digest of the rest, so that texts which differ only there are not the same.
pub(super) fn cut(mut text: String) -> String {
    if text.len() > LONGEST_TEXT {
        let rest = text.split_off(text.floor_char_boundary(LONGEST_TEXT));
        let sum = hex(digest(&SHA256, rest.as_bytes()).as_ref());
        // On a line of its own, which cannot belong to a comment at the end of the text.
        text.push_str("\n… the rest is left out; its SHA-256 begins with ");
        text.push_str(&sum[..16]);
    }
    text
}

/// Whether a name is one that HCL accepts.
pub(super) fn is_identifier(name: &str) -> bool {
    Ident::try_new(name).is_ok()
}

/// Whether a character can be part of a name, apart from its first one.
pub(super) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-')
}

/// The name of an attribute in an object, which may be quoted.
pub(super) fn attribute_name(key: &ObjectKey) -> Option<&str> {
    match key {
        ObjectKey::Ident(ident) => Some(ident.as_str()),
        ObjectKey::Expression(expression) => expression.as_str(),
    }
}

/// The value of the attribute whose [`attribute_name`] is `name`.
pub(super) fn attribute<'a>(object: &'a Object, name: Option<&str>) -> Option<&'a Expression> {
    let found = object.iter().find(|(key, _)| attribute_name(key) == name);
    found.map(|(_, value)| value.expr())
}

/// Whether a text stands for a configuration of a provider: `aws` for the default one, or an alias such as `aws.east`.
pub(super) fn is_configuration(text: &str, provider: &str) -> bool {
    let is_alias = |(name, alias): (&str, &str)| name == provider && is_identifier(alias);
    text == provider || text.split_once('.').is_some_and(is_alias)
}

/// The expression without what does not change its meaning: comments, white space, line breaks in place of commas.
pub(super) fn canonical(source: &str) -> String {
    let tokens = tokens(source);
    let mut out: Vec<&str> = Vec::with_capacity(tokens.len());
    let mut is_separated = false;
    for token in tokens {
        if is_separator(token) {
            is_separated = true;
            continue;
        }
        let follows = |last: &&str| !["(", "[", "{", "=", ":", "?"].contains(last);
        if is_separated && out.last().is_some_and(follows) && ![")", "]", "}"].contains(&token) {
            out.push(",");
        }
        is_separated = false;
        out.push(token);
    }
    out.join(" ")
}

fn is_separator(token: &str) -> bool {
    matches!(token, "," | "\n")
}

/// Words, quoted strings, punctuation and line breaks.
fn tokens(source: &str) -> Vec<&str> {
    let is_dotted = |c: char| is_word(c) || c == '.';
    let mut out = Vec::new();
    let mut rest = source;
    while let Some(next) = rest.chars().next() {
        let (len, is_kept) = match (next, comment_len(rest)) {
            // A comment without an end was cut: the digest of the rest is in it.
            (_, Some(len)) => (len, rest.starts_with("/*") && !rest[..len].ends_with("*/")),
            ('"', _) => (string_end(rest), true),
            ('<', _) if rest.starts_with("<<") => (heredoc_len(rest).unwrap_or(1), true),
            ('\n', _) => (1, true),
            (c, _) if c.is_whitespace() => (c.len_utf8(), false),
            (c, _) if is_dotted(c) => (rest.find(|c| !is_dotted(c)).unwrap_or(rest.len()), true),
            (c, _) => (c.len_utf8(), true),
        };
        if is_kept {
            out.push(&rest[..len]);
        }
        rest = &rest[len..];
    }
    out
}

/// Where the quoted string at the start of `text` ends, behind its closing quote.
fn string_end(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of the comment at the start of a text, without the line break at its end.
pub(super) fn comment_len(text: &str) -> Option<usize> {
    if text.starts_with('#') || text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    let within = text.strip_prefix("/*")?;
    Some(within.find("*/").map_or(text.len(), |end| end + 4))
}

/// The length of the heredoc at the start of `text`, without the line break behind its delimiter. White space in it is content.
pub(super) fn heredoc_len(text: &str) -> Option<usize> {
    let named = text.strip_prefix("<<-").or_else(|| text.strip_prefix("<<"))?;
    let (delimiter, body) = named.split_at(named.find(|c| !is_word(c))?);
    if delimiter.is_empty() || !(body.starts_with('\n') || body.starts_with("\r\n")) {
        return None;
    }
    let mut end = text.len() - body.len();
    for line in body.split_inclusive('\n') {
        if line.trim() == delimiter {
            return Some(end + line.trim_end().len());
        }
        end += line.len();
    }
    Some(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_is_shown_without_the_indentation_of_its_block() {
        let written = "object({\n      name = string\n\n      tags = map(string)\r\n    })";
        assert_eq!(dedented(written), "object({\n  name = string\n\n  tags = map(string)\n})");
        assert_eq!(dedented(" string "), "string");
        assert!(dedented(&"ü".repeat(LONGEST_TEXT)).len() <= LONGEST_TEXT + 100);
        assert_eq!(unindented("  a\n    b\n\n  c\n"), "a\n  b\n\nc");
    }

    #[test]
    fn only_blanks_and_tabs_are_indentation() {
        for (written, shown) in [
            ("<<-E\n    a\n\u{3000}\u{3000}b\n  E", "<<-E\n    a\n\u{3000}\u{3000}b\n  E"),
            ("<<-E\n    a\n  \u{3000}b\n\u{3000}\n  E", "<<-E\n  a\n\u{3000}b\n\nE"),
            ("{\n \u{a0}a\n\u{a0}b\n }", "{\n \u{a0}a\n\u{a0}b\n }"),
            ("{\n\t\ta\n\t}", "{\n\ta\n}"),
        ] {
            assert_eq!(dedented(written), shown);
        }
    }

    #[test]
    fn texts_that_differ_where_they_are_cut_differ() {
        for begin in ["", "[", "\"", "# ", "/* ", "<<E\n"] {
            let long = |end: &str| canonical(&cut(format!("{begin}{}{end}", "x".repeat(LONGEST_TEXT))));
            assert_eq!(long("a"), long("a"), "{begin}");
            assert_ne!(long("a"), long("b"), "{begin}");
        }
    }

    #[test]
    fn names_are_those_that_terraform_accepts() {
        for (name, is_valid) in [
            ("a", true),
            ("_a-1", true),
            ("größe", true),
            ("", false),
            ("1a", false),
            ("a b", false),
            ("a\n}", false),
        ] {
            assert_eq!(is_identifier(name), is_valid, "{name}");
        }
        for (text, is_valid) in [
            ("aws.east", true),
            ("aws", true),
            ("aws.a }", false),
            ("aws.", false),
            ("oci", false),
            ("oci.a", false),
        ] {
            assert_eq!(is_configuration(text, "aws"), is_valid, "{text}");
        }
    }

    #[test]
    fn layout_and_comments_change_no_meaning() {
        let same = [
            ("object({ a = string, b = number })", "object({\n  a = string # the name\n  b = number\n})"),
            ("object({a=string,b=number})", "object({\n  a = string,\n  /* b */ b = number,\n})"),
            ("list(string)", "list( string )"),
            ("[1, 2]", "[\n  1,\n  2,\n]"),
            ("[1, 2]", "\n[\n\n  1,\n\n  # two\n  2,\n\n]\n"),
            ("{}", "{ }"),
            ("[<<E\na\nE\n, 1]", "[<<E\na\nE\n, 1 # one\n]"),
            ("true", "true // yes"),
            ("1 + 2", "1 /*/ one */ + 2"),
            ("{\n  a = {\n    b = 1\n  }\n  c = 2\n}", "{ a = { b = 1 }, c = 2 }"),
        ];
        for (one, other) in same {
            assert_eq!(canonical(one), canonical(other));
        }
        let different = [
            ("\"a b\"", "\"a  b\""),
            ("\"a # b\"", "\"a\""),
            ("list(string)", "set(string)"),
            ("a - b", "a - b - c"),
            ("[\"a\", \"b\"]", "[\"a,b\"]"),
            ("\"\\\"#\"", "\"\\\"\""),
            ("<<-EOT\nhttps://a.example\nEOT", "<<-EOT\nhttps://b.example\nEOT"),
            ("<<EOT\n#!/bin/sh\nEOT\n", "<<EOT\n#!/bin/bash\nEOT\n"),
            ("<<-EOT\n  a:\n    b\n  EOT", "<<-EOT\n  a:\n  b\n  EOT"),
            ("{\n  a = <<E\nit's \"\nE\n  b = 1\n}", "{\n  a = <<E\nit's \"\nE\n  b = 2\n}"),
        ];
        for (one, other) in different {
            assert_ne!(canonical(one), canonical(other));
        }
    }
}
