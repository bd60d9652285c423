//! Safe HTML of a README.
//!
//! READMEs of modules need raw HTML: `terraform-docs` writes `<br>`, `<a name>`, `<pre>`. So Markdown is rendered with it, and a
//! sanitiser keeps what neither runs nor loads anything. Images would tell their hosts who reads the page: they become links.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use ammonia::Builder;
use pulldown_cmark::{CowStr, Event, HeadingLevel, Options, Parser, Tag, TagEnd, html};

use crate::registry::index::ServedVersion;

/// The longest README that is rendered, in bytes.
const LONGEST: usize = 256 << 10;
/// The most elements within each other. The HTML parser takes quadratic time for deep trees.
const DEPTH: usize = 48;
/// In front of all ids of a README, so that they cannot stand for parts of the page.
const PREFIX: &str = "user-";

/// Where relative links of a README lead to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links {
    /// The repository's files at the commit, such as `https://github.com/acme/eks/blob/COMMIT`; empty if that is not known.
    base: String,
}

impl Links {
    /// The files that a version was made of.
    pub fn of(version: &ServedVersion) -> Self {
        let source = version.source.as_deref().filter(|source| source.starts_with("https://"));
        let base = source.zip(version.commit.as_deref().or(version.tag.as_deref()));
        Self { base: base.map(|(source, at)| format!("{source}/blob/{at}")).unwrap_or_default() }
    }

    /// The address of all files.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Where a link leads to; `None` if it is to be dropped. `folder`: the folder of the README.
    fn resolve(&self, link: &str, folder: &str) -> Option<String> {
        let link = link.trim();
        if let Some(fragment) = link.strip_prefix('#') {
            return Some(format!("#{PREFIX}{fragment}"));
        }
        let scheme = link.split(['/', '?', '#']).next().filter(|first| first.contains(':'));
        if scheme.is_some() || link.starts_with("//") {
            let lower = link.to_ascii_lowercase();
            let allowed = ["https://", "http://", "mailto:"].iter().any(|scheme| lower.starts_with(scheme));
            return allowed.then(|| link.to_owned());
        }
        if self.base.is_empty() || link.is_empty() {
            return None;
        }
        let (path, rest) = link.find(['?', '#']).map_or((link, ""), |at| link.split_at(at));
        let whole = if path.starts_with('/') { path.to_owned() } else { format!("{folder}/{path}") };
        let mut parts: Vec<&str> = Vec::new();
        for part in whole.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        Some(format!("{}/{}{rest}", self.base, parts.join("/")))
    }
}

/// The README of `folder` as HTML that can stand anywhere in a page.
pub fn to_html(markdown: &str, links: &Links, folder: &str) -> String {
    let markdown = &markdown[..markdown.floor_char_boundary(LONGEST)];
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_FOOTNOTES
        | Options::ENABLE_GFM;
    let mut rewritten = Rewritten::default();
    rewritten.add_all(flat(Parser::new_ext(markdown, options)));
    let mut rendered = String::with_capacity(markdown.len() * 2);
    html::push_html(&mut rendered, rewritten.events.into_iter());
    sanitised(&rendered, links, folder)
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
        .id_prefix(Some(PREFIX))
        .attribute_filter(move |element, attribute, value| match (element, attribute) {
            (_, "href") => links.resolve(value, &folder).map(Cow::Owned),
            (_, "name") => Some(Cow::Owned(format!("{PREFIX}{value}"))),
            (_, "cite" | "src") => None,
            ("code", "class") => value.starts_with("language-").then_some(Cow::Borrowed(value)),
            _ => Some(Cow::Borrowed(value)),
        });
    builder.clean(html).to_string()
}

/// Events without what is nested too deeply: elements lose their tags there, and raw HTML is shown as text.
fn flat<'a>(events: impl Iterator<Item = Event<'a>>) -> impl Iterator<Item = Event<'a>> {
    let (mut depth, mut open_tags) = (0_usize, 0_usize);
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
            let closed = html.matches("</").count();
            let opened = html.matches('<').count() - closed;
            if depth + open_tags + opened > DEPTH {
                return Some(Event::Text(html));
            }
            let void = ["<br", "<hr", "<img", "<!--"].iter().map(|tag| html.matches(tag).count()).sum();
            open_tags = (open_tags + opened).saturating_sub(closed).saturating_sub(void);
            Some(Event::InlineHtml(html))
        }
        event => Some(event),
    })
}

/// Events with images as links, and with the ids that GitHub gives to headings.
#[derive(Default)]
struct Rewritten<'a> {
    events: Vec<Event<'a>>,
    slugs: HashMap<String, usize>,
    in_link: usize,
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
                }
                Event::End(TagEnd::Image) if self.in_link == 0 => {
                    self.events.push(Event::End(TagEnd::Link));
                }
                Event::End(TagEnd::Image) => {}
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
        let count = self.slugs.entry(slug.clone()).or_default();
        *count += 1;
        if *count == 1 { slug } else { format!("{slug}-{}", *count - 1) }
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
mod tests {
    use super::*;

    fn links() -> Links {
        Links { base: "https://github.com/acme/eks/blob/c0ffee".into() }
    }

    fn html(markdown: &str) -> String {
        to_html(markdown, &links(), "modules/karpenter")
    }

    #[test]
    fn what_terraform_docs_writes_is_kept() {
        let markdown = "# EKS\n\n| Name | Type |\n|---|---|\n| <a name=\"input_tags\"></a> [tags](#input\\_tags) | <pre>map(<br/>string)</pre> |\n\n<details><summary>More</summary>x</details>\n";
        let html = html(markdown);
        for expected in [
            "<h3 id=\"user-eks\">EKS</h3>",
            "<a name=\"user-input_tags\"",
            "href=\"#user-input_tags\"",
            "<pre>map(<br>string)</pre>",
            "<details><summary>More</summary>",
            "<table>",
        ] {
            assert!(html.contains(expected), "{expected} is not in {html}");
        }
    }

    #[test]
    fn links_lead_to_the_repository_at_the_commit_and_images_are_links() {
        let base = "https://github.com/acme/eks/blob/c0ffee";
        for (markdown, expected) in [
            ("[a](main.tf)", format!("href=\"{base}/modules/karpenter/main.tf\"")),
            ("[a](../../docs/x.md#y)", format!("href=\"{base}/docs/x.md#y\"")),
            ("[a](../../../../../x)", format!("href=\"{base}/x\"")),
            ("[a](/LICENSE)", format!("href=\"{base}/LICENSE\"")),
            ("[a](https://b/c)", "href=\"https://b/c\"".into()),
            ("[a](mailto:x@y.z)", "href=\"mailto:x@y.z\"".into()),
            ("![diagram](https://i.example/x.png)", "href=\"https://i.example/x.png\"".into()),
            ("[![badge](https://i.example/b.svg)](https://ci)", "href=\"https://ci\"".into()),
        ] {
            let html = html(markdown);
            assert!(html.contains(&expected), "{markdown}: {html}");
            assert!(!html.contains("<img") && !html.contains("src="), "{html}");
            assert_eq!(html.matches("<a ").count(), 1, "{html}");
        }
    }

    #[test]
    fn headings_have_the_ids_that_github_gives() {
        let html = html("## Usage & `more`\n## Usage & `more`\n[x](#usage--more)");
        assert!(
            html.contains("id=\"user-usage--more\"") && html.contains("id=\"user-usage--more-1\""),
            "{html}"
        );
        assert!(html.contains("href=\"#user-usage--more\""), "{html}");
    }

    /// What runs or loads something in a browser, after the page of OWASP on evading filters.
    #[test]
    fn nothing_runs_and_nothing_is_loaded() {
        for hostile in [
            "<script>alert(1)</script>",
            "<img src=x onerror=alert(1)>",
            "<svg onload=alert(1)>",
            "<a href=\"javascript:alert(1)\">x</a>",
            "<a href=\"jav&#x09;ascript:alert(1)\">x</a>",
            "<a href=\" &#14; javascript:alert(1)\">x</a>",
            "[x](javascript:alert(1))",
            "[x](JaVaScRiPt:alert(1))",
            "[x](data:text/html;base64,PHNjcmlwdD4=)",
            "[x](vbscript:x)",
            "<iframe src=//evil.example></iframe>",
            "<object data=//evil.example></object>",
            "<form action=//evil.example><input name=a></form>",
            "<style>@import '//evil.example';</style>",
            "<p style=\"background:url(//evil.example)\">x</p>",
            "<link rel=stylesheet href=//evil.example>",
            "<meta http-equiv=refresh content='0;url=//evil.example'>",
            "<base href=//evil.example>",
            "<video src=//evil.example autoplay></video>",
            "<math><mi xlink:href=\"javascript:alert(1)\">x</mi></math>",
            "<a href=x onclick=alert(1) onmouseover=alert(1)>x</a>",
            "<noscript><p title=\"</noscript><img src=x onerror=alert(1)>\">",
            "<table background=//evil.example><tr><td>x</table>",
            "<blockquote cite=\"javascript:x\">x</blockquote>",
            "<div id=\"main\" class=\"banner\">x</div>",
            "`<script>`\n\n```\n<script>alert(1)</script>\n```",
        ] {
            let html = html(hostile).to_lowercase();
            for forbidden in [
                "<script",
                "<img",
                "<svg",
                "<iframe",
                "<object",
                "<form",
                "<input",
                "<style",
                "<link",
                "<meta",
                "<base",
                "<video",
                "<math",
                " on",
                "javascript:",
                "data:",
                "vbscript:",
                " style=",
                " src=",
                " class=\"banner",
                " id=\"main\"",
                "background=",
                "cite=",
            ] {
                assert!(!html.contains(forbidden), "{hostile}: {forbidden} is in {html}");
            }
        }
    }

    /// Eight times the size must not take much more than eight times as long.
    #[test]
    fn the_time_for_a_readme_grows_with_its_size_only() {
        let time = |text: &str, bytes: usize| {
            let readme = text.repeat(bytes / text.len());
            let once = |()| {
                let start = std::time::Instant::now();
                assert!(html(&readme).len() < 64 * LONGEST, "{text}");
                start.elapsed()
            };
            // The shortest of two, since other processes can only make it longer.
            [(); 2].map(once).into_iter().min().unwrap_or_default()
        };
        for text in [
            "<b>",
            "<p>",
            "<table>",
            "<a>",
            "<div>\n\n",
            "<div>\n",
            "[",
            "*_",
            "**a ",
            "> ",
            "![",
            "|",
            "\\",
            "`",
            "<a href=x>",
            "- ",
            "&#",
            "# x\n",
            "[a](",
            "<details>",
            "</b>",
            "<!--",
            "<svg>",
            "| a ",
            "[^1]: ",
            "~~",
            "1. ",
        ] {
            let (small, large) = (time(text, 4 << 10), time(text, 32 << 10));
            let most = small * 24 + std::time::Duration::from_millis(150);
            assert!(large < most, "{text:?}: {small:?}, then {large:?}");
        }
    }
}
