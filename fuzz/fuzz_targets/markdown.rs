//! READMEs as HTML: nothing in it runs or loads anything.
#![no_main]

use opendepot::registry::docs::{Links, to_html};

const TAGS: [&str; 14] = [
    "<script", "<img", "<svg", "<math", "<iframe", "<object", "<embed", "<form", "<input", "<style", "<link",
    "<meta", "<base", "<video",
];

libfuzzer_sys::fuzz_target!(|raw: &[u8]| {
    let html = to_html(&String::from_utf8_lossy(raw), &Links::default(), "modules/a");
    let lower = html.to_lowercase();
    for tag in TAGS {
        assert!(!lower.contains(tag), "{tag} in {html}");
    }
    // Text has no raw angle bracket, so that what stands between two is a tag.
    for tag in html.split('<').skip(1).filter_map(|rest| rest.split_once('>')).map(|(tag, _)| tag) {
        let attributes = tag.split_once(' ').map_or("", |(_, attributes)| attributes);
        for attribute in attributes.split("\" ").filter(|attribute| attribute.contains('=')) {
            let (name, value) = attribute.split_once("=\"").unwrap_or((attribute, ""));
            assert!(!name.trim().starts_with("on") && name != "style" && name != "src", "{tag}");
            if name == "href" {
                let allowed = ["https:", "http:", "mailto:", "#user-"];
                assert!(allowed.iter().any(|scheme| value.to_lowercase().starts_with(scheme)), "{tag}");
            }
        }
    }
});
