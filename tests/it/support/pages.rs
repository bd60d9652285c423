//! The documentation as the tests read it: blocks of code, commands in them, tables and links.
//!
//! In: Markdown files of this repository. Out: their parts, in order. Nothing is run here.

use std::path::{Path, PathBuf};

use super::root;

/// A fenced block of a page.
#[derive(Debug, Clone)]
pub struct Block {
    /// The heading of the second level that it is below.
    pub section: String,
    /// The line where it begins.
    pub line: usize,
    /// What follows the fence.
    pub language: String,
    /// What is inside, without the fence's own indentation.
    pub text: String,
}

impl Block {
    /// The commands of a script. Indented lines, closing words and lines after a backslash belong to the command before.
    pub fn commands(&self) -> Vec<String> {
        let mut commands: Vec<String> = Vec::new();
        let mut continued = false;
        for line in self.text.lines().filter(|line| !line.trim().is_empty()) {
            let belongs = continued || line.starts_with([' ', '}']) || line.starts_with("done");
            match commands.last_mut() {
                Some(command) if belongs => command.extend(["\n", line]),
                _ => commands.push(line.to_owned()),
            }
            continued = line.ends_with('\\');
        }
        commands
    }
}

/// The pages that people read: the README and its like, and `docs/`.
pub fn pages() -> Vec<PathBuf> {
    let of =
        |folder: &str| std::fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
    let mut pages: Vec<_> =
        of(".").chain(of("docs")).filter(|p| p.extension().is_some_and(|e| e == "md")).collect();
    pages.sort();
    pages
}

/// The blocks of a page.
pub fn blocks(page: &Path) -> Vec<Block> {
    let text = std::fs::read_to_string(page).unwrap();
    let (mut blocks, mut section, mut open): (Vec<Block>, _, Option<(usize, Block)>) =
        (vec![], String::new(), None);
    for (number, line) in text.lines().enumerate() {
        let indent = line.len() - line.trim_start().len();
        match (&mut open, line.trim_start().strip_prefix("```")) {
            (None, Some(language)) => {
                let block = Block {
                    section: section.clone(),
                    line: number + 1,
                    language: language.into(),
                    text: String::new(),
                };
                open = Some((indent, block));
            }
            (None, None) => {
                if let Some(heading) = line.strip_prefix("## ") {
                    heading.clone_into(&mut section);
                }
            }
            (Some(_), Some("")) => blocks.extend(open.take().map(|(_, block)| block)),
            (Some(_), Some(more)) => {
                panic!("{}:{}: a fence within a fence: {more}", page.display(), number + 1)
            }
            (Some((indent, block)), None) => {
                block.text.push_str(line.get(*indent..).unwrap_or_default());
                block.text.push('\n');
            }
        }
    }
    assert!(open.is_none(), "{}: a fence does not end", page.display());
    blocks
}

/// The first cells of a page's table rows that are one word of code, by the heading of the second level.
pub fn rows(page: &Path, section: &str) -> Vec<String> {
    let text = std::fs::read_to_string(page).unwrap();
    let part = text.split("\n## ").find(|part| part.starts_with(section)).expect(section);
    let cells = part.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    cells.map(|(word, _)| word.to_owned()).collect()
}

/// The targets of a page's links, blocks left out.
pub fn links(page: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(page).unwrap();
    let prose: String = text.split("```").step_by(2).collect();
    let targets = prose.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    targets.map(|(target, _)| target.to_owned()).collect()
}

/// The anchors that GitHub makes of a page's headings.
pub fn anchors(page: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(page).unwrap();
    let headings =
        text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let anchor = |heading: &str| {
        let kept = heading.to_lowercase().replace(' ', "-");
        kept.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect()
    };
    headings.map(anchor).collect()
}
