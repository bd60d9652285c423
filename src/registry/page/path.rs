//! The paths of pages, and of the API that finds modules.

use url::form_urlencoded;

use crate::domain::address::is_module_name;
use crate::domain::{Address, Release};
use crate::registry::path::release;
use crate::registry::session;

/// What a path of a page requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PagePath {
    Style,
    /// What crawlers may open.
    Robots,
    /// Signing in and out, and where to go afterwards.
    Login(String),
    /// The list of modules, as a page.
    List(Query),
    /// The beginning of an address, as words for the list. They need no encoding in a URL.
    Shortened(String),
    /// A module, one of its versions, or a folder of a version.
    Module(Address, Option<Release>, String),
    Versions(Address, Query),
    Compare(Address, [Release; 2]),
    /// The list of modules, as JSON.
    ListJson(Query),
    /// What changed between two versions, as JSON.
    CompareJson(Address, [Release; 2]),
}

/// The query of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// `q`: words to look for; empty for all.
    pub words: String,
    /// `offset`: how many to leave out.
    pub offset: usize,
    /// `limit`: how many to show.
    pub limit: Option<usize>,
    /// The first part of the address: from the path, else from `namespace`.
    pub namespace: Option<String>,
    /// The second part, which only a path has.
    pub name: Option<String>,
    /// `provider`: the last part.
    pub provider: Option<String>,
}

/// The longest query that is read, in characters.
const LONGEST_QUERY: usize = 256;
/// The longest path of a folder, in bytes.
const LONGEST_FOLDER: usize = 512;

/// What a path requests; `None` if it belongs to no page.
pub fn page(path: &str, query: Option<&str>) -> Option<PagePath> {
    let text = query.unwrap_or_default();
    let query = Query::parse(text);
    if let Some(rest) = path.strip_prefix("/modules/") {
        return pages(rest.strip_suffix('/').unwrap_or(rest), query);
    }
    match path {
        "/" => Some(PagePath::List(query)),
        "/modules" => pages("", query),
        "/login" => Some(PagePath::Login(session::back(text.as_bytes()))),
        "/style.css" => Some(PagePath::Style),
        "/robots.txt" => Some(PagePath::Robots),
        "/v1/modules" | "/v1/modules/" | "/v1/modules/search" => Some(PagePath::ListJson(query)),
        _ => json(path.strip_prefix("/v1/modules/")?, query),
    }
}

fn pages(rest: &str, query: Query) -> Option<PagePath> {
    let parts: Vec<&str> = rest.split('/').collect();
    if parts.len() < 3 {
        let is_address = rest.is_empty() || parts.iter().all(|part| is_module_name(part));
        return is_address.then(|| PagePath::Shortened(rest.to_owned()));
    }
    let (&[namespace, name, system], rest) = parts.split_first_chunk::<3>()?;
    let address: Address = format!("{namespace}/{name}/{system}").parse().ok()?;
    match *rest {
        [] => Some(PagePath::Module(address, None, String::new())),
        ["versions"] => Some(PagePath::Versions(address, query)),
        ["compare", versions] => Some(PagePath::Compare(address, pair(versions)?)),
        [version, ref folder @ ..] => {
            let folder = folder.join("/");
            // The folders at other paths are read, but not linked to.
            is_linkable(&folder).then_some(PagePath::Module(address, Some(release(version)?), folder))
        }
    }
}

fn json(rest: &str, query: Query) -> Option<PagePath> {
    let parts: Vec<&str> = rest.split('/').collect();
    let is_name = |text: &str| format!("x/{text}/x").parse::<Address>().is_ok();
    match *parts {
        [namespace, name, system, "compare", versions] => {
            let address = format!("{namespace}/{name}/{system}").parse().ok()?;
            Some(PagePath::CompareJson(address, pair(versions)?))
        }
        [namespace] if is_name(namespace) => {
            Some(PagePath::ListJson(Query { namespace: Some(namespace.into()), ..query }))
        }
        [namespace, name] if is_name(namespace) && is_name(name) => {
            let (namespace, name) = (Some(namespace.into()), Some(name.into()));
            Some(PagePath::ListJson(Query { namespace, name, ..query }))
        }
        _ => None,
    }
}

/// `A...B`.
fn pair(text: &str) -> Option<[Release; 2]> {
    let (from, to) = text.split_once("...")?;
    Some([release(from)?, release(to)?])
}

/// Whether a folder's path needs no encoding in a URL.
pub fn is_linkable(folder: &str) -> bool {
    let is_plain = |part: &str| {
        !matches!(part, "" | "." | "..")
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.~".contains(&b))
    };
    folder.len() <= LONGEST_FOLDER && (folder.is_empty() || folder.split('/').all(is_plain))
}

impl Query {
    fn parse(text: &str) -> Self {
        let mut query = Self::default();
        for (key, value) in form_urlencoded::parse(text.as_bytes()) {
            match key.as_ref() {
                "q" => query.words = value.chars().filter(|c| !c.is_control()).take(LONGEST_QUERY).collect(),
                "offset" => query.offset = value.parse().unwrap_or(0),
                "limit" => query.limit = value.parse().ok(),
                "namespace" => query.namespace = Some(value.chars().take(LONGEST_QUERY).collect()),
                "provider" => query.provider = Some(value.chars().take(LONGEST_QUERY).collect()),
                _ => {}
            }
        }
        query
    }

    /// The same for a list with `total` entries: an offset beyond the end is replaced by that of the last page.
    pub(super) fn within(&self, total: usize, per_page: usize) -> Self {
        let last = total.saturating_sub(1) / per_page * per_page;
        let offset = if self.offset < total { self.offset } else { last };
        Self { offset, ..self.clone() }
    }

    /// The namespace, name and system that the query may contain: those of its path and parameters, else its first words.
    pub(super) fn named(&self) -> Option<(&str, Option<&str>, Option<&str>)> {
        let words = self.words.split(|c: char| c == '/' || c.is_whitespace());
        let mut words = words.filter(|word| !word.is_empty());
        let namespace = self.namespace.as_deref().or_else(|| words.next())?;
        let name = self.name.as_deref().or_else(|| words.next()).filter(|name| is_module_name(name));
        let system = self.provider.as_deref().or_else(|| words.next());
        is_module_name(namespace).then_some((namespace, name, system))
    }

    /// Whether a text has all words of the query, in any order and in either case.
    pub fn matcher(&self) -> impl Fn(&str) -> bool {
        let words = self.words.to_lowercase();
        move |text: &str| {
            let text = text.to_lowercase();
            words.split_whitespace().all(|word| text.contains(word))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn describe(path: &str) -> String {
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        match page(path, query) {
            None => "-".into(),
            Some(PagePath::Style) => "style".into(),
            Some(PagePath::Robots) => "robots".into(),
            Some(PagePath::Login(back)) => format!("login {back}"),
            Some(PagePath::List(query)) => format!("list {:?} from {}", query.words, query.offset),
            Some(PagePath::Shortened(words)) => format!("shortened {words:?}"),
            Some(PagePath::Module(address, release, folder)) => {
                format!("module {address} {} {folder:?}", release.map(|r| r.to_string()).unwrap_or_default())
            }
            Some(PagePath::Versions(address, _)) => format!("versions {address}"),
            Some(PagePath::Compare(address, [from, to])) => format!("compare {address} {from} {to}"),
            Some(PagePath::CompareJson(address, [from, to])) => format!("json {address} {from} {to}"),
            Some(PagePath::ListJson(query)) => {
                format!("json {:?} {:?} {:?} {:?}", query.namespace, query.name, query.words, query.limit)
            }
        }
    }

    #[test]
    fn an_offset_behind_the_end_is_that_of_the_last_part() {
        for (offset, total, within) in [
            (0, 0, 0),
            (50, 0, 0),
            (49, 50, 49),
            (50, 50, 0),
            (50, 51, 50),
            (5000, 101, 100),
            (usize::MAX, 1, 0),
        ] {
            let query = Query { offset, words: "a".into(), ..Query::default() };
            assert_eq!(query.within(total, 50), Query { offset: within, ..query }, "{offset} of {total}");
        }
    }

    #[test]
    fn a_query_names_a_module_by_its_path_its_parameters_or_its_words() {
        for (path, expected) in [
            ("/?q=team+eks", Some(("team", Some("eks"), None))),
            ("/?q=/team/eks/aws+x", Some(("team", Some("eks"), Some("aws")))),
            ("/v1/modules/search?q=eks&namespace=team", Some(("team", Some("eks"), None))),
            ("/v1/modules/team?q=eks+x&provider=aws", Some(("team", Some("eks"), Some("aws")))),
            ("/v1/modules/team/eks?q=a+b&namespace=other", Some(("team", Some("eks"), Some("a")))),
            ("/v1/modules/team", Some(("team", None, None))),
            ("/?q=eks", Some(("eks", None, None))),
            ("/?q=eks+-a", Some(("eks", None, None))),
            ("/?q=-a+eks", None),
            ("/", None),
        ] {
            let (at, query) = path.split_once('?').map_or((path, None), |(at, query)| (at, Some(query)));
            let (PagePath::List(query) | PagePath::ListJson(query)) = page(at, query).unwrap() else {
                panic!("{path} is no list")
            };
            assert_eq!(query.named(), expected, "{path}");
        }
    }

    #[test]
    fn paths_of_pages() {
        for (path, expected) in [
            ("/", "list \"\" from 0"),
            ("/?q=eks+aws%20x&offset=50", "list \"eks aws x\" from 50"),
            ("/?offset=-1", "list \"\" from 0"),
            ("/style.css", "style"),
            ("/robots.txt", "robots"),
            ("/login", "login /"),
            ("/login?return=/modules/a/b/aws", "login /modules/a/b/aws"),
            ("/login?return=//evil.example", "login /"),
            ("/modules/a/b/aws", "module a/b/aws  \"\""),
            ("/modules/a/b/aws/", "module a/b/aws  \"\""),
            ("/modules/a/b/aws/1.0.0", "module a/b/aws 1.0.0 \"\""),
            ("/modules/a/b/aws/1.0.0/", "module a/b/aws 1.0.0 \"\""),
            ("/modules/a/b/aws/v1.0.0%2Bx", "module a/b/aws 1.0.0+x \"\""),
            ("/modules/a/b/aws/1.0.0/modules/karpenter", "module a/b/aws 1.0.0 \"modules/karpenter\""),
            ("/modules/a/b/aws/1.0.0/..", "-"),
            ("/modules/a/b/aws/1.0.0/%2e%2e", "-"),
            ("/modules/a/b/aws/1.0.0//x", "-"),
            ("/modules/a/b/aws/latest", "-"),
            ("/modules/a/b/aws/versions", "versions a/b/aws"),
            ("/modules/a/b/aws/compare/1.0.0...1.1.0-rc.1", "compare a/b/aws 1.0.0 1.1.0-rc.1"),
            ("/modules/a/b/aws/compare/1.0.0..1.1.0", "-"),
            ("/modules", "shortened \"\""),
            ("/modules/", "shortened \"\""),
            ("/modules/a", "shortened \"a\""),
            ("/modules/a/b/", "shortened \"a/b\""),
            ("/modules//b", "-"),
            ("/modules/a%2Fb", "-"),
            ("/modulesx", "-"),
            ("/v1/modules/a/b/aws/compare/1.0.0...1.1.0", "json a/b/aws 1.0.0 1.1.0"),
            ("/v1/modules?limit=2", "json None None \"\" Some(2)"),
            ("/v1/modules/search?q=x", "json None None \"x\" None"),
            ("/v1/modules/a", "json Some(\"a\") None \"\" None"),
            ("/v1/modules/a/b", "json Some(\"a\") Some(\"b\") \"\" None"),
            ("/v1/modules/a%2F/b", "-"),
            ("/favicon.ico", "-"),
        ] {
            assert_eq!(describe(path), expected, "{path}");
        }
    }
}
