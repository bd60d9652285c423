//! Safe HTML of a README.
//!
//! READMEs of modules need raw HTML: `terraform-docs` writes `<br>`, `<a name>`, `<pre>`. So Markdown is rendered with it, and a
//! sanitiser keeps what neither runs nor loads anything. Images would show their hosts who reads the page, so they become links.

mod autolinks;
mod elements;
mod github;
mod images;
mod links;
mod raw_html;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use ammonia::Builder;
use pulldown_cmark::{CowStr, Event, HeadingLevel, Options, Parser, Tag, TagEnd, html};

pub use links::Links;

use super::text::is_identifier;
use autolinks::linked;
use github::{aligned, front_matter, properties, worded};
use links::PREFIX;
use raw_html::{flat, joined};

/// The longest README that is rendered, in bytes.
pub(super) const LONGEST_README: usize = 256 << 10;

/// Stands below a README that is not shown to its end.
const CUT: &str = "<p><em>This README is longer than 256 KiB. The rest is in the module's archive.</em></p>";

/// The README of `folder` as HTML that can stand anywhere in a page.
pub fn to_html(markdown: &str, links: &Links, folder: &str) -> String {
    // A byte order mark would hide that the first line is a heading.
    let markdown = markdown.strip_prefix('\u{feff}').unwrap_or(markdown);
    let shown = &markdown[..markdown.floor_char_boundary(LONGEST_README)];
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_FOOTNOTES
        | Options::ENABLE_GFM;
    let (front, body) = front_matter(shown).map_or((None, shown), |(front, body)| (Some(front), body));
    let events = front.into_iter().flat_map(properties).chain(Parser::new_ext(body, options));
    let mut rewritten = Rewritten::default();
    rewritten.add_all(linked(flat(worded(joined(events)))).into_iter());
    let mut rendered = String::with_capacity(shown.len() * 2);
    html::push_html(&mut rendered, aligned(rewritten.events.into_iter()));
    let mut html = sanitised(&rendered, links, folder);
    html.push_str(if shown.len() < markdown.len() { CUT } else { "" });
    html
}

/// Keeps what neither runs nor loads anything.
fn sanitised(html: &str, links: &Links, folder: &str) -> String {
    let (links, folder) = (links.clone(), folder.to_owned());
    let mut builder = Builder::default();
    builder
        .rm_tags(["img", "map", "area"])
        .add_tag_attributes("a", ["name", "id"])
        .add_tag_attributes("code", ["class"])
        .add_generic_attributes(["id"])
        .rm_generic_attributes(["title", "lang"])
        .url_schemes(HashSet::from(["https", "http", "mailto"]))
        .link_rel(Some("nofollow noopener noreferrer"))
        .attribute_filter(move |element, attribute, value| match (element, attribute) {
            (_, "href") => links.resolve(value, &folder).map(Cow::Owned),
            (_, "name" | "id") => Some(Cow::Owned(format!("{PREFIX}{value}"))),
            (_, "cite" | "src") => None,
            // Other classes would take styles of the page.
            ("code", "class") => {
                let first = value.split_ascii_whitespace().next()?;
                first.starts_with("language-").then_some(Cow::Borrowed(first))
            }
            _ => Some(Cow::Borrowed(value)),
        });
    builder.clean(html).to_string()
}

/// Events with images as links, and with the ids that GitHub gives to headings.
#[derive(Default)]
struct Rewritten<'a> {
    events: Vec<Event<'a>>,
    /// The ids that exist, and the last number behind each.
    slugs: HashMap<String, usize>,
    in_link: usize,
    /// Where the descriptions of the open images begin.
    images: Vec<usize>,
}

impl<'a> Rewritten<'a> {
    fn add_all(&mut self, events: impl Iterator<Item = Event<'a>>) {
        let mut heading: Option<(usize, String)> = None;
        for event in events {
            match event {
                Event::Start(Tag::Heading { .. }) => {
                    heading = Some((self.events.len(), String::new()));
                    // The id is made of the text that follows, so the end of the heading replaces this event.
                    self.events.push(event);
                }
                Event::End(TagEnd::Heading(level)) => {
                    let level = lowered(level);
                    if let Some((at, text)) = heading.take() {
                        let id = Some(self.slug(&text)).filter(|id| !id.is_empty()).map(CowStr::from);
                        let (classes, attrs) = (Vec::new(), Vec::new());
                        self.events[at] = Event::Start(Tag::Heading { level, id, classes, attrs });
                    }
                    self.events.push(Event::End(TagEnd::Heading(level)));
                }
                Event::Start(Tag::Image { link_type, dest_url, id, .. }) => {
                    // A link to the image, around its description; within a link, the description alone.
                    if self.in_link == 0 {
                        let title = "".into();
                        self.events.push(Event::Start(Tag::Link { link_type, dest_url, title, id }));
                    }
                    self.images.push(self.events.len());
                }
                Event::End(TagEnd::Image) => {
                    // A link needs a text.
                    if self.images.pop() == Some(self.events.len()) {
                        self.events.push(Event::Text("image".into()));
                    }
                    if self.in_link == 0 {
                        self.events.push(Event::End(TagEnd::Link));
                    }
                }
                event => {
                    match &event {
                        Event::Start(Tag::Link { .. }) => self.in_link += 1,
                        Event::End(TagEnd::Link) => self.in_link = self.in_link.saturating_sub(1),
                        // The description of an image is no text of the heading.
                        Event::Text(text) | Event::Code(text) if self.images.is_empty() => {
                            if let Some((_, heading)) = &mut heading {
                                heading.push_str(text);
                            }
                        }
                        _ => {}
                    }
                    self.events.push(event);
                }
            }
        }
    }

    /// The id of a heading, as GitHub makes it.
    fn slug(&mut self, text: &str) -> String {
        let kept = text.chars().filter(|c| is_in_id(*c));
        let slug: String =
            kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect();
        let mut id = slug.clone();
        while self.slugs.contains_key(&id) {
            let last = self.slugs.entry(slug.clone()).or_default();
            *last += 1;
            id = format!("{slug}-{last}");
        }
        self.slugs.insert(id.clone(), 0);
        id
    }
}

/// Whether GitHub keeps a character in the id of a heading: letters, decimal digits, marks and connectors, such as `_`.
fn is_in_id(c: char) -> bool {
    match c {
        // Names of HCL cannot contain enclosing marks, such as that of a keycap, but can contain middle dots and joiners.
        ' ' | '-' | '\u{20dd}'..='\u{20e4}' => true,
        '\u{b7}' | '\u{387}' | '\u{200c}' | '\u{200d}' | '\u{30fb}' | '\u{ff65}' => false,
        c => c.is_alphabetic() || is_identifier(&format!("_{c}")),
    }
}

/// A level lower by two: the page has headings of its own above the README.
fn lowered(level: HeadingLevel) -> HeadingLevel {
    HeadingLevel::try_from(level as usize + 2).unwrap_or(HeadingLevel::H6)
}

#[cfg(test)]
mod tests;
