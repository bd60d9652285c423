//! Links at addresses that are written without brackets, as on GitHub.
//! (<https://github.github.com/gfm/#autolinks-extension->)

use std::ops::Range;

use pulldown_cmark::{Event, LinkType, Tag, TagEnd, TextMergeStream};

use super::images::OpenLinks;

/// An address within a text.
struct Found {
    at: Range<usize>,
    target: String,
}

/// Events with a link at each address in texts outside of links and code.
pub(super) fn linked<'a>(events: impl Iterator<Item = Event<'a>>) -> Vec<Event<'a>> {
    let mut links = OpenLinks::default();
    let mut in_code = false;
    let mut out = Vec::new();
    // The parser gives a text in several pieces.
    for event in TextMergeStream::new(events) {
        match &event {
            Event::Text(text) if !in_code && !links.is_open() => {
                let found = addresses(text);
                if !found.is_empty() {
                    add(text, found, &mut out);
                    continue;
                }
            }
            Event::Start(tag) => {
                in_code |= matches!(tag, Tag::CodeBlock(_));
                links.drop_start(tag);
            }
            Event::End(tag) => {
                in_code &= *tag != TagEnd::CodeBlock;
                links.drop_end(*tag);
            }
            Event::Html(html) | Event::InlineHtml(html) => drop(links.rewritten(html)),
            _ => {}
        }
        out.push(event);
    }
    out
}

/// Adds a text with links.
fn add(text: &str, found: Vec<Found>, out: &mut Vec<Event<'_>>) {
    let piece = |range: Range<usize>| Event::Text(text[range].to_owned().into());
    let mut end = 0;
    for Found { at, target } in found {
        let (dest_url, title, id) = (target.into(), "".into(), "".into());
        let link = Tag::Link { link_type: LinkType::Autolink, dest_url, title, id };
        out.extend([piece(end..at.start), Event::Start(link), piece(at.clone()), Event::End(TagEnd::Link)]);
        end = at.end;
    }
    out.push(piece(end..text.len()));
}

/// The addresses in a text, in their order. The time grows with the length only.
fn addresses(text: &str) -> Vec<Found> {
    let mut found = Vec::new();
    // The end of the last address, and of the last domain that is refused.
    let (mut done, mut refused) = (0, 0);
    for (at, mark) in text.match_indices(['w', ':', '@']) {
        if at < done {
            continue;
        }
        let address = match mark {
            "@" => email(text, done, at),
            _ if at < refused => None,
            _ => url(text, done, at, &mut refused),
        };
        if let Some(address) = address {
            done = address.at.end;
            found.push(address);
        }
    }
    found
}

/// The URL with `://` or `www.` at `at`, which begins at `from` or later.
fn url(text: &str, from: usize, at: usize, refused: &mut usize) -> Option<Found> {
    let (start, host, scheme) = if text[at..].starts_with("://") {
        let before = text[from..at].trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let start = from + before.len();
        if !["http", "https"].iter().any(|scheme| scheme.eq_ignore_ascii_case(&text[start..at])) {
            return None;
        }
        (start, at + "://".len(), "")
    } else {
        let can_follow = |c: char| c.is_whitespace() || matches!(c, '*' | '_' | '~' | '(');
        let begins = text[at..].starts_with("www.") && text[..at].chars().next_back().is_none_or(can_follow);
        (begins.then_some(at)?, at + "www.".len(), "http://")
    };
    if !text[host..].starts_with(char::is_alphanumeric) {
        return None;
    }
    let is_in_domain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    let end = text[host..].find(|c| !is_in_domain(c)).map_or(text.len(), |len| host + len);
    if text[host..end].rsplit('.').take(2).any(|label| label.contains('_')) {
        *refused = end;
        return None;
    }
    let end = host + url_length(&text[host..]);
    Some(Found { at: start..end, target: format!("{scheme}{}", &text[start..end]) })
}

/// The length of the URL at the start of a text, without punctuation that belongs to the sentence.
fn url_length(text: &str) -> usize {
    let is_end = |c: char| c.is_whitespace() || matches!(c, '<' | '>');
    let mut url = &text[..text.find(is_end).unwrap_or(text.len())];
    let (open, mut closed) = (url.matches('(').count(), url.matches(')').count());
    while let Some(last) = url.chars().next_back() {
        let dropped = match last {
            ')' if closed > open => {
                closed -= 1;
                1
            }
            '?' | '!' | '.' | ',' | ':' | '*' | '_' | '~' | '\'' | '"' => 1,
            ';' => entity_length(url),
            _ => break,
        };
        url = &url[..url.len() - dropped];
    }
    url.len()
}

/// The length of what looks like an entity at the end of a text that ends in `;`; otherwise 1.
fn entity_length(text: &str) -> usize {
    let before = &text[..text.len() - 1];
    let rest = before.trim_end_matches(|c: char| c.is_ascii_alphanumeric());
    match rest.strip_suffix('&') {
        Some(rest) if rest.len() + 1 < before.len() => text.len() - rest.len(),
        _ => 1,
    }
}

/// The e-mail address around the `@` at `at`, which begins at `from` or later.
fn email(text: &str, from: usize, at: usize) -> Option<Found> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let before = text[from..at].trim_end_matches(|c| is_word(c) || c == '+');
    let after = &text[at + 1..];
    let (domain, rest) = after.split_at(after.find(|c| !is_word(c)).unwrap_or(after.len()));
    let domain = domain.trim_end_matches('.');
    let is_email = from + before.len() < at
        && domain.contains('.')
        && !domain.split('.').any(str::is_empty)
        && domain.ends_with(|c: char| c.is_ascii_alphabetic())
        && !rest.starts_with('@');
    if !is_email {
        return None;
    }
    let end = at + 1 + domain.len();
    let (start, scheme) = match before.strip_suffix("mailto:") {
        Some(before) => (from + before.len(), ""),
        None => (from + before.len(), "mailto:"),
    };
    Some(Found { at: start..end, target: format!("{scheme}{}", &text[start..end]) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text with `[address](target)` in place of each address; of the target, only what differs from the address.
    fn marked(text: &str) -> String {
        let mut end = 0;
        let marked = addresses(text).into_iter().map(|Found { at, target }| {
            let (before, address) = (&text[end..at.start], &text[at.clone()]);
            end = at.end;
            format!("{before}[{address}]({})", target.strip_suffix(address).unwrap())
        });
        let marked: String = marked.collect();
        marked + &text[end..]
    }

    /// After the examples of GitHub's specification, and of its implementation.
    #[test]
    fn addresses_end_where_github_ends_them() {
        for (text, expected) in [
            ("www.commonmark.org", "[www.commonmark.org](http://)"),
            ("Visit www.commonmark.org/help for more.", "Visit [www.commonmark.org/help](http://) for more."),
            ("Visit www.commonmark.org.", "Visit [www.commonmark.org](http://)."),
            ("Visit www.commonmark.org/a.b.", "Visit [www.commonmark.org/a.b](http://)."),
            (
                "www.google.com/search?q=Markup+(business)",
                "[www.google.com/search?q=Markup+(business)](http://)",
            ),
            ("www.google.com/q=Markup+(business)))", "[www.google.com/q=Markup+(business)](http://)))"),
            ("(www.google.com/q=Markup+(business))", "([www.google.com/q=Markup+(business)](http://))"),
            ("(www.google.com/q=Markup+(business)", "([www.google.com/q=Markup+(business)](http://)"),
            ("www.google.com/search?q=(business))+ok", "[www.google.com/search?q=(business))+ok](http://)"),
            ("www.google.com/q=commonmark&hl=en", "[www.google.com/q=commonmark&hl=en](http://)"),
            ("www.google.com/q=commonmark&hl;", "[www.google.com/q=commonmark](http://)&hl;"),
            ("www.commonmark.org/he<lp", "[www.commonmark.org/he](http://)<lp"),
            ("http://commonmark.org", "[http://commonmark.org]()"),
            ("(Visit https://encrypted.google.com/a+(b))", "(Visit [https://encrypted.google.com/a+(b)]())"),
            ("foo@bar.baz", "[foo@bar.baz](mailto:)"),
            (
                "hello@mail+xyz.example isn't valid, but hello+xyz@mail.example is.",
                "hello@mail+xyz.example isn't valid, but [hello+xyz@mail.example](mailto:) is.",
            ),
            ("a.b-c_d@a.b", "[a.b-c_d@a.b](mailto:)"),
            ("a.b-c_d@a.b.", "[a.b-c_d@a.b](mailto:)."),
            ("a.b-c_d@a.b-", "a.b-c_d@a.b-"),
            ("a.b-c_d@a.b_", "a.b-c_d@a.b_"),
            ("mailto:foo@bar.baz", "[mailto:foo@bar.baz]()"),
            ("\"https://a.b/c\": x", "\"[https://a.b/c]()\": x"),
            ("HTTPS://a.b, http://localhost:8080/x;", "[HTTPS://a.b](), [http://localhost:8080/x]();"),
            ("http://a.b/&;", "[http://a.b/&]();"),
            ("http://größe.example/é?", "[http://größe.example/é]()?"),
            ("http://a_b.c.d and http://a.b_c.d", "[http://a_b.c.d]() and http://a.b_c.d"),
            ("www.x_y.com or www.x.y_z", "www.x_y.com or www.x.y_z"),
            ("awww.a.b wwww.a.b www. www", "awww.a.b wwww.a.b www. www"),
            ("**www.a.b** x", "**[www.a.b](http://)** x"),
            ("ftp://a.b javascript://a.b xhttp://a.b http:// https://.a", ""),
            ("aws@v1.2.3 @a.b a@b a@b..c x@y.z1", ""),
            ("a@b@c.d", "a@[b@c.d](mailto:)"),
        ] {
            let expected = if expected.is_empty() { text } else { expected };
            assert_eq!(marked(text), expected);
        }
    }
}
