//! The blocks of a piece that cannot be parsed, with names in place of the expressions that the parser refuses.
//!
//! A name is as long as the expression, so that positions stay the same and the expression can be shown as it is written.

use hcl_edit::parser::parse_body;

use super::text::{comment_len, heredoc_len, is_word};

/// A block that cannot be parsed.
pub(super) struct Repaired<'a> {
    /// As it is written.
    pub source: &'a str,
    /// Its type and labels.
    pub header: &'a str,
    /// What can be parsed in its place. Positions are those of `source`.
    pub text: String,
}

/// The blocks of a piece. Each part of the text is scanned once, and parsed once.
pub(super) fn repaired(piece: &str) -> Vec<Repaired<'_>> {
    let mut blocks = Vec::new();
    // Grows in step with `piece`: its length is the read position.
    let mut text = String::with_capacity(piece.len());
    let (mut depth, mut begin, mut header) = (0_usize, 0, "");
    let block = |text: &str, begin: usize, header| Repaired {
        source: &piece[begin..text.len()],
        header,
        text: text[begin..].to_owned(),
    };
    while text.len() < piece.len() {
        let rest = &piece[text.len()..];
        match part(rest) {
            Part::Begin(len) => {
                if depth == 0 {
                    (begin, header) = (text.len(), &rest[..len]);
                }
                depth += 1;
                text.push_str(&rest[..=len]);
            }
            Part::End if depth > 0 => {
                depth -= 1;
                text.push('}');
                if depth == 0 {
                    blocks.push(block(&text, begin, header));
                }
            }
            Part::End => push_blank(&mut text, "}"),
            Part::Attribute { value, len } if depth > 0 => push_attribute(&mut text, &rest[..len], value),
            Part::Attribute { len, .. } | Part::Other(len) => push_blank(&mut text, &rest[..len]),
        }
    }
    if depth > 0 {
        let open = block(&text, begin, header);
        blocks.push(Repaired { text: open.text + &"\n}".repeat(depth), ..open });
    }
    blocks
}

/// What a text begins with, and how long that is.
enum Part {
    /// A type and labels, with a brace behind them.
    Begin(usize),
    /// The end of a block.
    End,
    /// An attribute, and where its value begins.
    Attribute { value: usize, len: usize },
    /// White space, a comment, or what belongs to no block.
    Other(usize),
}

fn part(text: &str) -> Part {
    let blank = text.len() - text.trim_start().len();
    if blank > 0 {
        return Part::Other(blank);
    }
    if text.starts_with('}') {
        return Part::End;
    }
    if let Some(len) = comment_len(text) {
        return Part::Other(len);
    }
    let word = text.find(|c| !is_word(c)).unwrap_or(text.len());
    if word > 0 {
        let behind = text[word..].trim_start_matches([' ', '\t']);
        if behind.starts_with('=') && !behind.starts_with("==") {
            let value = text.len() - behind.len() + 1;
            return Part::Attribute { value, len: expression_end(text, value) };
        }
        let header = text.find(['{', '}', '=', '#', '\n']).unwrap_or(text.len());
        if text[header..].starts_with('{') {
            return Part::Begin(header);
        }
    }
    Part::Other(expression_end(text, 0))
}

/// Adds an attribute, whose value begins at `value`.
fn push_attribute(text: &mut String, attribute: &str, value: usize) {
    let (key, value) = attribute.split_at(value);
    let written = value.trim();
    if parse_body(attribute).is_ok() {
        text.push_str(attribute);
    } else if written.is_empty() {
        push_blank(text, attribute);
    } else {
        let indent = value.len() - value.trim_start().len();
        text.push_str(key);
        push_blank(text, &value[..indent]);
        text.push_str(&"x".repeat(written.len()));
        push_blank(text, &value[indent + written.len()..]);
    }
}

/// Adds white space in place of a text. Line breaks stay.
fn push_blank(text: &mut String, replaced: &str) {
    text.extend(replaced.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }));
}

/// Where the expression at `start` ends: at the end of its line or block, unless a bracket, a string or a heredoc is open.
fn expression_end(text: &str, start: usize) -> usize {
    let bytes = text.as_bytes();
    // Brackets, and quotes, within which `${` is a bracket.
    let mut open: Vec<u8> = Vec::new();
    let mut at = start;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        if open.last() == Some(&b'"') {
            at += string_step(rest, &mut open);
            continue;
        }
        at += match rest {
            [b'\n' | b'}' | b'#', ..] | [b'/', b'/', ..] if open.is_empty() => return at,
            [b'#', ..] | [b'/', b'/' | b'*', ..] => comment_len(&text[at..]).unwrap_or(1),
            [b'<', b'<', ..] => heredoc_len(&text[at..]).unwrap_or(2),
            [bracket @ (b'"' | b'(' | b'[' | b'{'), ..] => {
                open.push(*bracket);
                1
            }
            [b')' | b']' | b'}', ..] => {
                open.pop();
                1
            }
            _ => 1,
        };
    }
    bytes.len()
}

/// The length of the next part of a quoted string.
fn string_step(rest: &[u8], open: &mut Vec<u8>) -> usize {
    match rest {
        // A string ends before the end of its line at the latest.
        [end @ (b'"' | b'\n'), ..] => {
            open.pop();
            usize::from(*end == b'"')
        }
        [b'\\', b'\\' | b'"', ..] => 2,
        [b'$', b'$', b'{', ..] | [b'%', b'%', b'{', ..] => 3,
        [b'$' | b'%', b'{', ..] => {
            open.push(b'{');
            2
        }
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(piece: &str) -> Vec<(&str, String)> {
        let blocks = repaired(piece).into_iter();
        blocks
            .map(|block| (block.header, block.text.split_whitespace().collect::<Vec<_>>().join(" ")))
            .collect()
    }

    #[test]
    fn what_the_parser_refuses_becomes_a_name_of_the_same_length() {
        let refused = "# head\n  variable \"ü\" {\r\n  default = { a = 1, a = 2 } # {\n  type = string\n}\n";
        let piece = format!("{refused}output \"b\" {{}}");
        let blocks = repaired(&piece);
        let [first, second] = blocks.as_slice() else { panic!("{} blocks", blocks.len()) };
        assert_eq!((first.header, second.header), ("variable \"ü\" ", "output \"b\" "));
        assert_eq!(first.source.len(), first.text.len());
        let (value, name) = ("{ a = 1, a = 2 }", "x".repeat(16));
        assert_eq!(first.source.find(value), first.text.find(&name));
        assert!(first.text.contains("type = string\n}"), "{}", first.text);
        assert_eq!((second.source, second.text.as_str()), ("output \"b\" {}", "output \"b\" {}"));
    }

    #[test]
    fn a_value_ends_where_terraform_ends_it() {
        for value in [
            "\"${f(\"}\")} \\\" $${ %%{ }\"",
            "\"%{ if a }}%{ endif }\"",
            "{\n  a = \"}\" # }\n  b = 1 // }\n  /* } */ c = [\n  ]\n}",
            "<<E\n}\n E, not the end\n E",
            "f(<<-E-1\n  }\n  E-1\n)",
            "a /* } */",
        ] {
            let text = format!("a {{\nb = {value}\n}}\nc");
            assert_eq!(expression_end(&text, 8), 8 + value.len(), "{value}");
        }
    }

    #[test]
    fn what_belongs_to_no_block_is_left_out() {
        let nested =
            "a \"b\" {\n<<<<<<< HEAD\n  c {\n    d = 1 +\n  }\n  e =\n  f.g\n}\n} ]\nh = 1\ni\n{\n}\n";
        assert_eq!(texts(nested), [("a \"b\" ", "a \"b\" { c { d = xxx } }".to_owned())]);
        assert_eq!(texts("a {\n  b {\n"), [("a ", "a { b { } }".to_owned())]);
        assert_eq!(texts("a { b = \"${\n"), [("a ", "a { b = xxx }".to_owned())]);
    }
}
