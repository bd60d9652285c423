//! The patch that writes a notice into `spec.versions`. Pure.

use serde_json::{Value, json};

use crate::domain::Release;

/// The largest number of versions that an error names.
const MAX_NEAR: usize = 5;

/// The version is not in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotListed {
    /// Number of listed versions.
    pub count: usize,
    /// The listed versions that look most like it, as they are spelled.
    pub near: Vec<String>,
}

/// The JSON patch (RFC 6902) that sets `field` of the entry of `release` to a text; an empty text removes the field. `None` if
/// nothing changes. Two spellings of a version are one: both entries get the same text.
pub(super) fn edit(
    object: &Value,
    release: &Release,
    field: &str,
    text: &str,
) -> Result<Option<Value>, NotListed> {
    let entries = object["spec"]["versions"].as_array().map_or(&[][..], Vec::as_slice);
    let is_it = |entry: &Value| {
        let listed = entry["version"].as_str().map(Release::parse);
        listed.is_some_and(|listed| listed.is_ok_and(|listed| listed == *release))
    };
    let found: Vec<(usize, &Value)> = entries.iter().enumerate().filter(|(_, entry)| is_it(entry)).collect();
    if found.is_empty() {
        let listed = entries.iter().filter_map(|entry| entry["version"].as_str());
        return Err(NotListed { count: entries.len(), near: near(listed, release) });
    }
    let mut operations = Vec::new();
    for (index, entry) in found {
        if entry[field].as_str().unwrap_or_default() == text {
            continue;
        }
        let path = |field: &str| format!("/spec/versions/{index}/{field}");
        operations.push(json!({"op": "test", "path": path("version"), "value": entry["version"]}));
        operations.push(if text.is_empty() {
            json!({"op": "remove", "path": path(field)})
        } else {
            json!({"op": "add", "path": path(field), "value": text})
        });
    }
    Ok((!operations.is_empty()).then(|| operations.into()))
}

/// The listed versions with the longest common beginning, the newest of equals first.
fn near<'a>(listed: impl Iterator<Item = &'a str>, release: &Release) -> Vec<String> {
    let wanted = release.to_string();
    let common = |text: &str| {
        let bare = text.strip_prefix('v').unwrap_or(text);
        bare.bytes().zip(wanted.bytes()).take_while(|(a, b)| a == b).count()
    };
    let mut all: Vec<(usize, Option<Release>, &str)> =
        listed.map(|text| (common(text), Release::parse(text).ok(), text)).collect();
    all.sort_by(|(common_a, a, _), (common_b, b, _)| {
        let newest_first = match (a, b) {
            (Some(a), Some(b)) => b.precedence(a),
            _ => b.is_some().cmp(&a.is_some()),
        };
        common_b.cmp(common_a).then(newest_first)
    });
    all.into_iter().take(MAX_NEAR).map(|(_, _, text)| text.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(entries: &Value) -> Value {
        json!({"spec": {"versions": entries}})
    }

    fn release(text: &str) -> Release {
        Release::parse(text).unwrap()
    }

    #[test]
    fn the_entry_is_tested_and_both_spellings_get_the_text() {
        let list = module(&json!([
            {"version": "1.0.0"}, {"version": "v1.1.0", "withdrawn": "old"}, {"version": "1.1.0"},
        ]));
        let patch = json!([
            {"op": "test", "path": "/spec/versions/1/version", "value": "v1.1.0"},
            {"op": "add", "path": "/spec/versions/1/withdrawn", "value": "CVE"},
            {"op": "test", "path": "/spec/versions/2/version", "value": "1.1.0"},
            {"op": "add", "path": "/spec/versions/2/withdrawn", "value": "CVE"},
        ]);
        assert_eq!(edit(&list, &release("1.1.0"), "withdrawn", "CVE"), Ok(Some(patch)));
        let removal = json!([
            {"op": "test", "path": "/spec/versions/1/version", "value": "v1.1.0"},
            {"op": "remove", "path": "/spec/versions/1/withdrawn"},
        ]);
        assert_eq!(edit(&list, &release("1.1.0"), "withdrawn", ""), Ok(Some(removal)));
        assert_eq!(edit(&list, &release("1.0.0"), "withdrawn", ""), Ok(None));
    }

    #[test]
    fn the_nearest_versions_are_named() {
        let list = json!([
            {"version": "v1.9.0"}, {"version": "1.10.0"}, {"version": "1.10.3"}, {"version": "2.0.0"},
            {"version": "1.1.0"}, {"version": "0.1.0"}, {"version": "latest"},
        ]);
        let NotListed { count, near } =
            edit(&module(&list), &release("1.10.1"), "withdrawn", "x").unwrap_err();
        assert_eq!(
            (count, near),
            (
                7,
                vec!["1.10.3", "1.10.0", "1.1.0", "v1.9.0", "2.0.0"].into_iter().map(str::to_owned).collect()
            )
        );
        let none = edit(&json!({}), &release("1.0.0"), "withdrawn", "x").unwrap_err();
        assert_eq!(none, NotListed { count: 0, near: vec![] });
    }
}
