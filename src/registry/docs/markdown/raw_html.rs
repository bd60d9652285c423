//! Raw HTML in a README: it stays flat, and images become links.

use pulldown_cmark::Event;

/// The most elements within each other. The HTML parser takes quadratic time for deep trees.
const DEPTH: usize = 48;

/// Events without what is nested too deeply: elements lose their tags there, and raw HTML is shown as text.
pub(super) fn flat<'a>(events: impl Iterator<Item = Event<'a>>) -> impl Iterator<Item = Event<'a>> {
    let (mut depth, mut open) = (0_usize, Vec::new());
    events.filter_map(move |event| match event {
        Event::Start(tag) => {
            depth += 1;
            (depth <= DEPTH).then_some(Event::Start(tag))
        }
        Event::End(tag) => {
            depth -= 1;
            (depth < DEPTH).then_some(Event::End(tag))
        }
        Event::Html(html) | Event::InlineHtml(html) => {
            let before = open.clone();
            if is_flat(&html, &mut open, DEPTH.saturating_sub(depth)) {
                return Some(Event::InlineHtml(images_as_links(&html).into()));
            }
            open = before;
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
        let name = tag.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
        let name = name.to_ascii_lowercase();
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

/// Elements without an end tag.
fn is_void(name: &str) -> bool {
    matches!(name, "br" | "hr" | "img" | "wbr" | "col" | "input" | "source")
}

/// Elements that end with the one around them, or with the next of their kind.
fn ends_by_itself(name: &str) -> bool {
    matches!(name, "p" | "li" | "td" | "th" | "tr" | "dt" | "dd" | "thead" | "tbody")
}

/// Elements that browsers open again after a misplaced end tag.
fn is_formatting(name: &str) -> bool {
    matches!(
        name,
        "a" | "b"
            | "big"
            | "code"
            | "em"
            | "font"
            | "i"
            | "nobr"
            | "s"
            | "small"
            | "strike"
            | "strong"
            | "tt"
            | "u"
    )
}

/// Raw HTML with a link in place of each image. It is sanitised later.
fn images_as_links(html: &str) -> String {
    let lower = html.to_ascii_lowercase();
    let mut out = String::with_capacity(html.len());
    let mut done = 0;
    while let Some(found) = lower[done..].find("<img") {
        let start = done + found;
        let end = lower[start..].find('>').map_or(lower.len(), |end| start + end + 1);
        out.push_str(&html[done..start]);
        done = end;
        let tag = &html[start..end];
        let plain = |text: &str| text.replace(['"', '<', '>'], "");
        if let Some(source) = attribute(tag, "src") {
            let text = attribute(tag, "alt").filter(|alt| !alt.trim().is_empty()).unwrap_or("image");
            out.extend(["<a href=\"", &plain(source), "\">", &plain(text), "</a>"]);
        }
    }
    out.push_str(&html[done..]);
    out
}

/// The value of an attribute of a tag.
fn attribute<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
    let start = tag.to_ascii_lowercase().find(&format!(" {name}="))? + name.len() + 2;
    let value = tag.get(start..)?;
    match value.chars().next()? {
        quote @ ('"' | '\'') => value[1..].split(quote).next(),
        _ => value.split(|c: char| c.is_whitespace() || c == '>').next(),
    }
}
