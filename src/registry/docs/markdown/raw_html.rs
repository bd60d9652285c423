//! Raw HTML in a README: it stays flat, its images become links, and its placeholders are text.

use pulldown_cmark::Event;

use super::elements::{ends_by_itself, is_formatting, is_void, tag_name};
use super::images::OpenLinks;

/// The deepest nesting of elements. The HTML parser takes quadratic time for deep trees.
const DEPTH: usize = 48;

/// Raw HTML in one piece: the parser gives each line of it alone, and a tag may extend over several.
pub(super) fn joined<'a>(events: impl Iterator<Item = Event<'a>>) -> impl Iterator<Item = Event<'a>> {
    let mut events = events.peekable();
    std::iter::from_fn(move || {
        let event = events.next()?;
        let Event::Html(first) = event else { return Some(event) };
        let mut html = first.into_string();
        while let Some(Event::Html(next)) = events.next_if(|next| matches!(next, Event::Html(_))) {
            html.push_str(&next);
        }
        Some(Event::Html(html.into()))
    })
}

/// Events without what is nested too deeply: elements lose their tags there, and raw HTML is shown as text.
pub(super) fn flat<'a>(events: impl Iterator<Item = Event<'a>>) -> impl Iterator<Item = Event<'a>> {
    let (mut depth, mut open) = (0_usize, Vec::new());
    let mut links = OpenLinks::default();
    events.filter_map(move |event| match event {
        Event::Start(tag) if links.drop_start(&tag) => None,
        Event::End(tag) if links.drop_end(tag) => None,
        Event::Start(tag) => {
            depth += 1;
            (depth <= DEPTH).then_some(Event::Start(tag))
        }
        Event::End(tag) => {
            depth -= 1;
            (depth < DEPTH).then_some(Event::End(tag))
        }
        Event::Html(html) | Event::InlineHtml(html) => {
            let before = (open.clone(), links.clone());
            let rewritten = links.rewritten(&html);
            // All tags count, whatever their names: the sanitiser may read the text in another way than this function.
            if is_flat(&rewritten, &mut open, DEPTH.saturating_sub(depth)) {
                return Some(Event::InlineHtml(rewritten.into()));
            }
            (open, links) = before;
            Some(Event::Text(html))
        }
        event => Some(event),
    })
}

/// Whether the tags of raw HTML leave at most so many elements open. `open` are the names of those that are.
///
/// An end tag counts only if the elements within its own end with it in every browser.
fn is_flat(html: &str, open: &mut Vec<String>, most: usize) -> bool {
    for (at, _) in html.match_indices('<') {
        let tag = &html[at + 1..];
        let (tag, is_end) = tag.strip_prefix('/').map_or((tag, false), |tag| (tag, true));
        let name = tag_name(tag).to_ascii_lowercase();
        let is_innermost = open.last() == Some(&name);
        if is_end {
            let start = open.iter().rposition(|one| *one == name);
            let ends = |start: &usize| {
                let within = &open[start + 1..];
                within.is_empty() || (!is_formatting(&name) && within.iter().all(|one| ends_by_itself(one)))
            };
            if let Some(start) = start.filter(ends) {
                open.truncate(start);
            }
        } else if !name.is_empty() && !is_void(&name) {
            if !(is_innermost && ends_by_itself(&name)) {
                open.push(name);
            }
            if open.len() > most {
                return false;
            }
        }
    }
    true
}
