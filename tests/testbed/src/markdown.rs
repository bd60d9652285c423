//! Pages of documentation: blocks of code, the commands in them, tables, links and sections.
//!
//! In: Markdown files. Out: their parts, in order. Nothing is run here.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

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

/// The pages of a repository that people read: the README and its like, and `docs/`.
pub fn pages(root: &Path) -> Result<Vec<PathBuf>> {
    let mut pages = Vec::new();
    for folder in [root.to_owned(), root.join("docs")] {
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path);
            }
        }
    }
    pages.sort();
    Ok(pages)
}

/// The blocks of a page.
pub fn blocks(page: &Path) -> Result<Vec<Block>> {
    let text = read(page)?;
    let (mut blocks, mut section) = (Vec::new(), String::new());
    let mut open: Option<(usize, Block)> = None;
    for (number, line) in text.lines().enumerate() {
        let indent = line.len() - line.trim_start().len();
        match (&mut open, line.trim_start().strip_prefix("```")) {
            (None, Some(language)) => {
                let (section, language) = (section.clone(), language.to_owned());
                open = Some((indent, Block { section, line: number + 1, language, text: String::new() }));
            }
            (None, None) => {
                if let Some(heading) = line.strip_prefix("## ") {
                    heading.clone_into(&mut section);
                }
            }
            (Some(_), Some("")) => blocks.extend(open.take().map(|(_, block)| block)),
            (Some(_), Some(more)) => {
                bail!("{}:{}: a fence within a fence: {more}", page.display(), number + 1)
            }
            (Some((indent, block)), None) => {
                block.text.push_str(line.get(*indent..).unwrap_or_default());
                block.text.push('\n');
            }
        }
    }
    ensure!(open.is_none(), "{}: a fence does not end", page.display());
    Ok(blocks)
}

/// A page of procedures, to be followed heading by heading.
pub struct Runbook(String);

impl Runbook {
    /// Reads one.
    pub fn read(page: &Path) -> Result<Self> {
        read(page).map(Self)
    }

    /// The scripts under a heading, one text for each block.
    pub fn scripts(&self, anchor: &str) -> Result<Vec<&str>> {
        let blocks = section(&self.0, anchor)?.split("```sh\n").skip(1);
        let scripts: Vec<_> = blocks.filter_map(|block| block.split("```").next()).collect();
        ensure!(!scripts.is_empty(), "#{anchor} has no scripts");
        Ok(scripts)
    }

    /// The numbered steps under a heading: where each is done, and the anchor of its own heading.
    pub fn steps(&self, anchor: &str) -> Result<Vec<(&str, &str)>> {
        let lines = section(&self.0, anchor)?.lines().filter(|line| line.starts_with(char::is_numeric));
        let steps = lines.filter_map(|line| {
            let (_, step) = line.split_once(". ")?;
            let anchor = step.split_once("](#")?.1.split(')').next()?;
            Some((step.split([':', ',']).next()?, anchor))
        });
        Ok(steps.collect())
    }
}

/// The text under a heading whose anchor is this, up to the next heading.
fn section<'a>(text: &'a str, anchor: &str) -> Result<&'a str> {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        at += line.len();
        if line.starts_with('#') && anchor_of(line) == anchor {
            let rest = &text[at..];
            return Ok(&rest[..rest.find("\n#").unwrap_or(rest.len())]);
        }
    }
    bail!("no heading #{anchor}")
}

/// The first cells of a page's table rows that are one word of code, below the heading of the second level.
pub fn rows(page: &Path, section: &str) -> Result<Vec<String>> {
    let text = read(page)?;
    let part = text.split("\n## ").find(|part| part.starts_with(section));
    let part = part.with_context(|| format!("{} has no section {section}", page.display()))?;
    let cells = part.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    Ok(cells.map(|(word, _)| word.to_owned()).collect())
}

/// The targets of a page's links, blocks left out.
pub fn links(page: &Path) -> Result<Vec<String>> {
    let text = read(page)?;
    let prose: String = text.split("```").step_by(2).collect();
    let targets = prose.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    Ok(targets.map(|(target, _)| target.to_owned()).collect())
}

/// The anchors that GitHub makes of a page's headings.
pub fn anchors(page: &Path) -> Result<Vec<String>> {
    Ok(read(page)?.lines().filter(|line| line.starts_with('#')).map(anchor_of).collect())
}

fn anchor_of(heading: &str) -> String {
    let heading = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
    heading.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect()
}

fn read(page: &Path) -> Result<String> {
    fs::read_to_string(page).with_context(|| format!("cannot read {}", page.display()))
}
