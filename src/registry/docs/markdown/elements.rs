//! The elements of HTML, by what matters for READMEs.

/// Elements that the sanitiser gets: it keeps them, or drops them with what they would run or load. Other names in angle brackets
/// are placeholders in a text, such as `<account-id>`. Elements that would hide the text behind them, such as `title` and
/// `script`, are not here.
#[rustfmt::skip] // It would write each name on a line of its own.
const ELEMENTS: &[&str] = &[
    "a", "abbr", "acronym", "address", "article", "aside", "audio", "b", "base", "bdi", "bdo", "big",
    "blockquote", "body", "br", "button", "canvas", "caption", "center", "cite", "code", "col", "colgroup",
    "data", "dd", "del", "details", "dfn", "dialog", "div", "dl", "dt", "em", "embed", "fieldset", "figcaption",
    "figure", "font", "footer", "form", "frame", "frameset", "h1", "h2", "h3", "h4", "h5", "h6", "head",
    "header", "hgroup", "hr",
    "html", "i", "img", "input", "ins", "kbd", "label", "legend", "li", "link", "main", "map",
    "mark", "math", "menu", "meta", "nav", "nobr", "object", "ol", "p", "picture", "pre", "q",
    "rp", "rt", "rtc", "ruby", "s", "samp", "section", "select", "small", "source", "span",
    "strike", "strong", "sub", "summary", "sup", "svg", "table", "tbody", "td", "tfoot",
    "th", "thead", "time", "tr", "tt", "u", "ul", "var", "video", "wbr",
];

/// Whether the sanitiser gets an element of this name, in lower case.
pub(super) fn is_element(name: &str) -> bool {
    ELEMENTS.binary_search(&name).is_ok()
}

/// White space in HTML. Other white space is part of a name.
pub(super) fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\x0c' | '\r')
}

/// The name of a tag, of which `body` is what follows `<` or `</`. Empty if that is no tag.
pub(super) fn tag_name(body: &str) -> &str {
    let end = body.find(|c: char| is_space(c) || matches!(c, '/' | '>' | '<')).unwrap_or(body.len());
    Some(&body[..end]).filter(|name| name.starts_with(|c: char| c.is_ascii_alphabetic())).unwrap_or_default()
}

/// Elements without an end tag.
pub(super) fn is_void(name: &str) -> bool {
    matches!(name, "br" | "hr" | "img" | "wbr" | "col" | "input" | "source")
}

/// Elements that end with the one around them, or with the next of their kind.
pub(super) fn ends_by_itself(name: &str) -> bool {
    matches!(name, "p" | "li" | "td" | "th" | "tr" | "dt" | "dd" | "thead" | "tbody")
}

/// Elements that browsers open again after a misplaced end tag.
pub(super) fn is_formatting(name: &str) -> bool {
    const NAMES: &[&str] =
        &["a", "b", "big", "code", "em", "font", "i", "nobr", "s", "small", "strike", "strong", "tt", "u"];
    NAMES.contains(&name)
}

/// The name of a heading two levels lower, as with those of Markdown: the page has headings of its own above the README.
pub(super) fn lowered_heading(name: &str) -> Option<&'static str> {
    match name {
        "h1" => Some("h3"),
        "h2" => Some("h4"),
        "h3" => Some("h5"),
        "h4" | "h5" | "h6" => Some("h6"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_elements_are_sorted() {
        assert!(ELEMENTS.is_sorted());
        assert!(is_element("wbr") && is_element("a") && !is_element("account-id"));
        assert!(is_element("blockquote") && is_element("figcaption"));
        assert!(["script", "style", "template", "iframe"].iter().all(|name| !is_element(name)));
    }
}
