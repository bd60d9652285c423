//! The pieces of a file that cannot be parsed as a whole: each begins with a block.
//!
//! The parser stops at the first error, and rejects some of what Terraform accepts: a line break in a `for` expression,
//! a key that is set twice, a line of a heredoc that begins with its delimiter.

use std::collections::HashMap;

use super::text::{is_identifier, is_word};

/// The blocks whose contents are shown.
const SHOWN: [&str; 8] =
    ["variable", "output", "module", "resource", "data", "ephemeral", "provider", "terraform"];
/// Other blocks that a file can have.
const OTHER: [&str; 7] = ["locals", "check", "moved", "removed", "import", "action", "language"];

/// Some lines of a file.
pub(super) struct Piece<'a> {
    /// The number of the first line, from 1 on.
    pub line: usize,
    pub text: &'a str,
}

impl Piece<'_> {
    /// Whether something can be missing on the page if the piece cannot be read.
    pub(super) fn is_shown(&self) -> bool {
        let first = self.text.lines().next().unwrap_or_default();
        !opens(first, &OTHER) || self.text.lines().any(|line| opens(line.trim_start(), &SHOWN))
    }
}

/// Cuts a file before each block that begins in the first column. The time grows with the size only.
pub(super) fn pieces(source: &str) -> Vec<Piece<'_>> {
    // A heredoc ends at a line that contains only its delimiter. Without such a line, there is no heredoc.
    let last: HashMap<&str, usize> =
        source.lines().enumerate().map(|(number, line)| (line.trim(), number)).collect();
    let mut pieces = Vec::new();
    let (mut begin, mut first, mut offset) = (0, 1, 0);
    let mut within = Within::Code;
    for (number, line) in source.split_inclusive('\n').enumerate() {
        if matches!(within, Within::Code) && (opens(line, &SHOWN) || opens(line, &OTHER)) {
            pieces.push(Piece { line: first, text: &source[begin..offset] });
            (begin, first) = (offset, number + 1);
        }
        within = within.after(line, |end| last.get(end).is_some_and(|later| *later > number));
        offset += line.len();
    }
    pieces.push(Piece { line: first, text: &source[begin..] });
    pieces
}

/// Whether a line begins a block of one of these types.
fn opens(line: &str, types: &[&str]) -> bool {
    let (word, rest) = line.split_at(line.find(|c| !is_word(c)).unwrap_or(line.len()));
    let rest = rest.trim_start();
    types.contains(&word)
        && rest.starts_with(|c: char| matches!(c, '"' | '{' | '_') || c.is_alphabetic())
        && rest.contains('{')
}

/// The context of a line.
#[derive(Clone, Copy)]
enum Within<'a> {
    Code,
    Comment,
    /// With its delimiter.
    Heredoc(&'a str),
}

impl<'a> Within<'a> {
    /// The context of the next line. `ends`: whether a later line has a heredoc's delimiter.
    fn after(self, line: &'a str, ends: impl Fn(&str) -> bool) -> Self {
        let line = line.trim();
        match self {
            Self::Heredoc(end) if line != end => self,
            Self::Comment if !line.contains("*/") => self,
            Self::Code if line.starts_with("/*") && !line.contains("*/") => Self::Comment,
            Self::Code if !line.starts_with('#') && !line.starts_with("//") => match heredoc(line) {
                Some(end) if ends(end) => Self::Heredoc(end),
                _ => Self::Code,
            },
            _ => Self::Code,
        }
    }
}

/// The delimiter of the heredoc that begins at the end of a line.
fn heredoc(line: &str) -> Option<&str> {
    let (_, end) = line.rsplit_once("<<")?;
    Some(end.strip_prefix('-').unwrap_or(end)).filter(|end| is_identifier(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_cut_before_each_of_its_blocks() {
        let blocks = [
            "# head\n",
            "variable \"a\" {\n  default = 1\n}\n",
            "data x \"y\" {}\n",
            "locals {\n  x = <<-E\nvariable \"no\" {\n  E\n}\n/*\noutput \"no\" {}\n*/\n",
            "output\t\"b\"{\n  value = data.x\n}\n# cat <<EOF\n",
            "terraform {\n  a = \"<<E\"\ndata = {\nvariables = {\n",
            "module \"c\" {\n  x = <<never\n",
            "check \"d\" {}",
        ];
        let source = blocks.concat();
        let pieces = pieces(&source);
        let texts: Vec<&str> = pieces.iter().map(|piece| piece.text).collect();
        assert_eq!(texts, blocks);
        let lines: Vec<usize> = pieces.iter().map(|piece| piece.line).collect();
        assert_eq!(lines, [1, 2, 5, 6, 14, 18, 22, 24]);
    }

    #[test]
    fn what_is_not_shown_is_not_missing() {
        for (text, is_shown) in [
            ("locals {\n  a =\n}\n", false),
            ("locals {\n  a = {\n  variable \"x\" {}\n", true),
            ("variable \"x\" {\n  a =\n}\n", true),
            ("<<<<<<< HEAD\n", true),
        ] {
            assert_eq!(Piece { line: 1, text }.is_shown(), is_shown, "{text}");
        }
    }
}
