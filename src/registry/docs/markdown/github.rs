//! What GitHub's Markdown marks by a class or a form field, which the sanitiser drops: alerts, and tasks that are done.

use pulldown_cmark::{BlockQuoteKind, Event, Tag, TagEnd};

/// Events with words in place of such marks.
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
