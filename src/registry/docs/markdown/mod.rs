//! Safe HTML of a README.
//!
//! READMEs of modules need raw HTML: `terraform-docs` writes `<br>`, `<a name>`, `<pre>`. So Markdown is rendered with it, and a
//! sanitiser keeps what neither runs nor loads anything. Images would tell their hosts who reads the page: they become links.

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

use github::worded;
use links::PREFIX;
use raw_html::{flat, joined};

/// The longest README that is rendered, in bytes.
const LONGEST: usize = 256 << 10;

/// Stands below a README that is not shown to its end.
const CUT: &str = "<p><em>This README is longer than 256 KiB. The rest is in the module's archive.</em></p>";

/// The README of `folder` as HTML that can stand anywhere in a page.
pub fn to_html(markdown: &str, links: &Links, folder: &str) -> String {
    // A mark of the encoding would hide that the first line is a heading.
    let markdown = markdown.strip_prefix('\u{feff}').unwrap_or(markdown);
    let all = markdown.len();
    let markdown = &markdown[..markdown.floor_char_boundary(LONGEST)];
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_FOOTNOTES
        | Options::ENABLE_GFM;
    let mut rewritten = Rewritten::default();
    rewritten.add_all(flat(worded(joined(Parser::new_ext(markdown, options)))));
    let mut rendered = String::with_capacity(markdown.len() * 2);
    html::push_html(&mut rendered, rewritten.events.into_iter());
    let mut html = sanitised(&rendered, links, folder);
    html.push_str(if markdown.len() < all { CUT } else { "" });
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
            ("code", "class") => value.starts_with("language-").then_some(Cow::Borrowed(value)),
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
                Event::Start(Tag::Heading { level, .. }) => {
                    heading = Some((self.events.len(), String::new()));
                    self.events.push(start_heading(level, String::new()));
                }
                Event::End(TagEnd::Heading(level)) => {
                    if let Some((at, text)) = heading.take() {
                        self.events[at] = start_heading(level, self.slug(&text));
                    }
                    self.events.push(Event::End(TagEnd::Heading(lowered(level))));
                }
                Event::Start(Tag::Image { dest_url, .. }) => {
                    let link = self.image(dest_url);
                    self.events.extend(link);
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
                        Event::Text(text) | Event::Code(text) => {
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

    /// A link to the image, around its description; within a link, the description alone.
    fn image(&self, url: CowStr<'a>) -> Option<Event<'a>> {
        let link = Tag::Link {
            link_type: pulldown_cmark::LinkType::Inline,
            dest_url: url,
            title: "".into(),
            id: "".into(),
        };
        (self.in_link == 0).then_some(Event::Start(link))
    }

    /// The id of a heading, as GitHub makes it.
    fn slug(&mut self, text: &str) -> String {
        let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
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

fn start_heading<'a>(level: HeadingLevel, id: String) -> Event<'a> {
    let id = Some(id).filter(|id| !id.is_empty()).map(CowStr::from);
    Event::Start(Tag::Heading { level: lowered(level), id, classes: Vec::new(), attrs: Vec::new() })
}

/// A level lower by two: the page has headings of its own above the README.
fn lowered(level: HeadingLevel) -> HeadingLevel {
    match level {
        HeadingLevel::H1 => HeadingLevel::H3,
        HeadingLevel::H2 => HeadingLevel::H4,
        HeadingLevel::H3 => HeadingLevel::H5,
        _ => HeadingLevel::H6,
    }
}

#[cfg(test)]
mod tests;
