//! The tags of raw HTML as the sanitiser gets them: links in place of images, lower headings, and text in place of placeholders.

use std::borrow::Cow;

use pulldown_cmark::{Tag, TagEnd};

use super::elements::{is_element, is_space, lowered_heading, tag_name};

/// Whether a link is open. HTML has no link within a link: there, an image is replaced by its description.
#[derive(Clone, Default)]
pub(super) struct OpenLinks {
    in_markdown: bool,
    in_html: bool,
    /// For each open image of Markdown, whether it is in a link of HTML.
    images: Vec<bool>,
}

/// A tag of raw HTML, with the attributes that matter here.
#[derive(Default)]
struct RawTag<'a> {
    /// In lower case; empty if the text is not a tag.
    name: String,
    is_end: bool,
    href: Option<&'a str>,
    src: Option<&'a str>,
    alt: Option<&'a str>,
    /// Whether an attribute has a value.
    has_values: bool,
    /// In bytes.
    len: usize,
}

impl OpenLinks {
    /// Whether to leave out the start of this element, so that only its content remains.
    pub(super) fn drop_start(&mut self, tag: &Tag<'_>) -> bool {
        self.in_markdown |= matches!(tag, Tag::Link { .. });
        let is_image = matches!(tag, Tag::Image { .. });
        if is_image {
            self.images.push(self.in_html);
        }
        is_image && self.in_html
    }

    /// The same for its end.
    pub(super) fn drop_end(&mut self, tag: TagEnd) -> bool {
        self.in_markdown &= tag != TagEnd::Link;
        tag == TagEnd::Image && self.images.pop().unwrap_or_default()
    }

    /// Whether a text would be in a link, or describes an image.
    pub(super) fn is_open(&self) -> bool {
        self.in_markdown || self.in_html || !self.images.is_empty()
    }

    /// Raw HTML with its tags rewritten. It is sanitised later.
    pub(super) fn rewritten(&mut self, html: &str) -> String {
        let mut out = String::with_capacity(html.len());
        let mut rest = html;
        while let Some(start) = rest.find('<') {
            let tag = RawTag::at(&rest[start..]);
            let end = start + tag.len;
            out.push_str(&rest[..start]);
            out.push_str(&self.rewritten_tag(&tag, &rest[start..end]));
            if tag.name == "a" {
                self.in_html = !tag.is_end && tag.href.is_some();
            }
            rest = &rest[end..];
        }
        out.push_str(rest);
        out
    }

    fn rewritten_tag<'a>(&self, tag: &RawTag<'_>, text: &'a str) -> Cow<'a, str> {
        if tag.name == "img" {
            return self.image(tag).into();
        }
        if let Some(name) = lowered_heading(&tag.name) {
            let begin = if tag.is_end { 2 } else { 1 };
            return format!("{}{name}{}", &text[..begin], &text[begin + tag.name.len()..]).into();
        }
        if tag.name.is_empty() || is_element(&tag.name) {
            return text.into();
        }
        // A placeholder has no end tag and no attributes. Another unknown element is dropped, and its content is kept.
        if tag.is_end || tag.has_values {
            return "".into();
        }
        text.replace('<', "&lt;").replace('>', "&gt;").into()
    }

    fn image(&self, tag: &RawTag<'_>) -> String {
        let plain = |text: &str| text.replace(['"', '<', '>'], "");
        let text = plain(tag.alt.filter(|alt| !alt.trim().is_empty()).unwrap_or("image"));
        match tag.src {
            Some(src) if !self.in_markdown && !self.in_html => {
                format!("<a href=\"{}\">{text}</a>", plain(src))
            }
            Some(_) => text,
            None => String::new(),
        }
    }
}

impl<'a> RawTag<'a> {
    /// The tag or the comment at the start of `html`, which begins with `<`.
    fn at(html: &'a str) -> Self {
        if html.starts_with("<!--") {
            return Self { len: html.find("-->").map_or(html.len(), |end| end + 3), ..Self::default() };
        }
        let (body, is_end) = html[1..].strip_prefix('/').map_or((&html[1..], false), |body| (body, true));
        let name = tag_name(body);
        if name.is_empty() {
            return Self { len: 1, ..Self::default() };
        }
        let mut tag = Self { name: name.to_ascii_lowercase(), is_end, ..Self::default() };
        let rest = tag.read_attributes(&body[name.len()..]);
        tag.len = html.len() - rest.len();
        tag
    }

    /// Reads attributes up to the end of the tag. Returns what follows it.
    fn read_attributes(&mut self, mut rest: &'a str) -> &'a str {
        loop {
            rest = rest.trim_start_matches(|c: char| is_space(c) || c == '/');
            if rest.is_empty() {
                return rest;
            }
            if let Some(after) = rest.strip_prefix('>') {
                return after;
            }
            let is_end_of_name =
                |(at, c): &(usize, char)| *at > 0 && (is_space(*c) || matches!(c, '=' | '>' | '/'));
            let end = rest.char_indices().find(is_end_of_name).map_or(rest.len(), |(at, _)| at);
            let (name, after) = rest.split_at(end);
            rest = after;
            let Some(after) = rest.trim_start_matches(is_space).strip_prefix('=') else { continue };
            self.has_values = true;
            let (value, after) = value(after.trim_start_matches(is_space));
            rest = after;
            let known = match name.to_ascii_lowercase().as_str() {
                "href" => &mut self.href,
                "src" => &mut self.src,
                "alt" => &mut self.alt,
                _ => continue,
            };
            *known = known.or(Some(value));
        }
    }
}

/// The value of an attribute, and what follows it.
fn value(text: &str) -> (&str, &str) {
    match text.chars().next() {
        Some(quote @ ('"' | '\'')) => text[1..].split_once(quote).unwrap_or((&text[1..], "")),
        _ => text.split_at(text.find(|c: char| is_space(c) || c == '>').unwrap_or(text.len())),
    }
}
