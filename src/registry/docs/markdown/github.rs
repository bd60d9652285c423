//! Extensions of Markdown in forms that the sanitiser keeps: alerts, tasks, columns of tables. Front matter becomes code,
//! because it would be a heading.

use pulldown_cmark::{Alignment, BlockQuoteKind, CodeBlockKind, Event, Tag, TagEnd};

use crate::registry::docs::text::is_word;

/// Events with words in place of the classes of alerts and the form fields of tasks.
pub(super) fn worded<'a>(events: impl Iterator<Item = Event<'a>>) -> impl Iterator<Item = Event<'a>> {
    events.flat_map(|event| {
        let (event, kind) = match event {
            Event::Start(Tag::BlockQuote(kind)) => (Event::Start(Tag::BlockQuote(None)), kind),
            Event::TaskListMarker(true) => (Event::Text("☑ ".into()), None),
            Event::TaskListMarker(false) => (Event::Text("☐ ".into()), None),
            event => (event, None),
        };
        std::iter::once(event).chain(kind.into_iter().flat_map(title))
    })
}

/// The paragraph above an alert.
fn title<'a>(kind: BlockQuoteKind) -> [Event<'a>; 5] {
    let title = match kind {
        BlockQuoteKind::Note => "Note",
        BlockQuoteKind::Tip => "Tip",
        BlockQuoteKind::Important => "Important",
        BlockQuoteKind::Warning => "Warning",
        BlockQuoteKind::Caution => "Caution",
    };
    [
        Event::Start(Tag::Paragraph),
        Event::Start(Tag::Strong),
        Event::Text(title.into()),
        Event::End(TagEnd::Strong),
        Event::End(TagEnd::Paragraph),
    ]
}

/// Events with the alignment of columns as an attribute of the cells.
pub(super) fn aligned<'a>(events: impl Iterator<Item = Event<'a>>) -> impl Iterator<Item = Event<'a>> {
    let mut columns: Vec<Alignment> = Vec::new();
    let (mut column, mut cell) = (0, "td");
    events.map(move |event| match event {
        Event::Start(Tag::Table(alignments)) => {
            columns = alignments;
            Event::Start(Tag::Table(Vec::new()))
        }
        Event::Start(Tag::TableHead) => {
            (column, cell) = (0, "th");
            event
        }
        Event::Start(Tag::TableRow) => {
            (column, cell) = (0, "td");
            event
        }
        Event::Start(Tag::TableCell) => {
            let align = columns.get(column).and_then(|alignment| value(*alignment));
            column += 1;
            align.map_or(event, |align| Event::InlineHtml(format!("<{cell} align=\"{align}\">").into()))
        }
        event => event,
    })
}

/// The value of the attribute `align`.
fn value(alignment: Alignment) -> Option<&'static str> {
    match alignment {
        Alignment::None => None,
        Alignment::Left => Some("left"),
        Alignment::Center => Some("center"),
        Alignment::Right => Some("right"),
    }
}

/// The properties between the lines `---` at the start of a README, and what follows them.
pub(super) fn front_matter(markdown: &str) -> Option<(&str, &str)> {
    let mut lines = markdown.split_inclusive('\n');
    let begin = lines.next().filter(|line| line.trim_end() == "---")?.len();
    let mut end = begin;
    for line in lines {
        if matches!(line.trim_end(), "---" | "...") {
            let within = &markdown[begin..end];
            let has_property = within.lines().next().is_some_and(is_property);
            return has_property.then(|| (within, &markdown[end + line.len()..]));
        }
        end += line.len();
    }
    None
}

fn is_property(line: &str) -> bool {
    line.trim_end().split_once(':').is_some_and(|(name, value)| {
        !name.is_empty() && name.chars().all(is_word) && (value.is_empty() || value.starts_with(' '))
    })
}

/// Properties as a block of code.
pub(super) fn properties(text: &str) -> [Event<'_>; 3] {
    let block = CodeBlockKind::Fenced("yaml".into());
    [Event::Start(Tag::CodeBlock(block)), Event::Text(text.into()), Event::End(TagEnd::CodeBlock)]
}
