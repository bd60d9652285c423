//! What all pages share: head, search, sign-in, footer, and pages with one sentence.

use flate2::Compression;
use http::{HeaderMap, HeaderName, Response, StatusCode, Uri, header};
use maud::{DOCTYPE, Markup, html};
use url::form_urlencoded::Serializer;

use crate::registry::answers::encoded::{accepts_gzip, gzip};
use crate::registry::http::Body;
use crate::registry::http::answer::{answer, set};
use crate::registry::session;

/// The style sheet. It is part of the program, so that it never differs from the pages.
pub(super) const STYLE: &str = include_str!("style.css");

/// Nothing runs, and nothing is loaded from elsewhere.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; \
                      frame-ancestors 'none'";

/// What a page shows of its viewer.
#[derive(Clone, Debug)]
pub(super) struct Viewer {
    /// The user name; `None` for anonymous.
    pub user: Option<String>,
    /// Where signing in leads back to: a path of this registry.
    pub path: String,
    /// Whether the page may be compressed.
    gzip: bool,
}

impl Viewer {
    /// The viewer of the page at `path`. A path that is not one of this registry is replaced by `/`.
    pub(super) fn at(path: &str, user: Option<String>) -> Self {
        Self { user, path: session::local(path).to_owned(), gzip: false }
    }

    /// Compresses the page for a browser that accepts it, but not a page that repeats text of its request: another site could
    /// make the browser request guesses, and see in the sizes of the answers which of them the page contains (BREACH). Pages
    /// repeat their query, and an error its path.
    pub(super) fn accepting(self, uri: &Uri, request: &HeaderMap) -> Self {
        Self { gzip: accepts_gzip(request) && uri.query().is_none(), ..self }
    }

    /// The link to the page on which people sign in.
    pub(super) fn sign_in(&self) -> String {
        if self.path == "/" { "/login".to_owned() } else { returning("/login", &self.path) }
    }
}

/// A link that leads back to the path `back` afterwards.
pub(super) fn returning(link: &str, back: &str) -> String {
    let query = Serializer::new(String::new()).append_pair("return", back).finish();
    format!("{link}?{query}")
}

pub(super) struct Page<'a> {
    pub title: &'a str,
    /// The words of the search field.
    pub words: &'a str,
    pub viewer: &'a Viewer,
    pub main: Markup,
}

impl Page<'_> {
    pub(super) fn answer(self, status: StatusCode, phrase: &'static str) -> Response<Body> {
        let gzip = self.viewer.gzip && status == StatusCode::OK;
        let page = self.render().into_string();
        let body = if gzip { self::gzip(page.as_bytes(), Compression::fast()) } else { page.into_bytes() };
        let mut answer = answer(status, phrase, body);
        if gzip {
            set(&mut answer, header::CONTENT_ENCODING, "gzip");
        }
        set(&mut answer, header::VARY, "Accept-Encoding");
        set(&mut answer, header::CONTENT_TYPE, "text/html; charset=utf-8");
        set(&mut answer, header::CACHE_CONTROL, "no-store");
        with_policy(answer)
    }

    fn render(self) -> Markup {
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    title { (self.title) " · OpenDepot" }
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    link rel="stylesheet" href={ "/style.css?v=" (env!("CARGO_PKG_VERSION")) };
                }
                body {
                    a.skip href="#main" { "Skip to the content" }
                    header.top {
                        div.wide {
                            a.brand href="/" { "OpenDepot" }
                            form.search role="search" action="/" method="get" {
                                label.hidden for="q" { "Search modules" }
                                input #q type="search" name="q" value=(self.words) placeholder="Search modules" maxlength="256";
                                button type="submit" { "Search" }
                            }
                            div.user {
                                @match &self.viewer.user {
                                    Some(user) => a.name href=(self.viewer.sign_in()) title=(user) { (user) },
                                    None => a href=(self.viewer.sign_in()) { "Sign in" },
                                }
                            }
                        }
                    }
                    main.wide #main tabindex="-1" { (self.main) }
                    footer.wide {
                        p { "OpenDepot " (env!("CARGO_PKG_VERSION")) " · modules for Terraform and OpenTofu" }
                    }
                }
            }
        }
    }
}

/// A page with one sentence.
pub(super) fn message(
    viewer: &Viewer,
    status: StatusCode,
    phrase: &'static str,
    title: &str,
    sentence: &str,
) -> Response<Body> {
    let sign_in = status == StatusCode::UNAUTHORIZED;
    let main = html! {
        div.message {
            h1 { (title) }
            p { (sentence) }
            p {
                @if sign_in { a.button href=(viewer.sign_in()) { "Sign in" } }
                @else { a href="/" { "All modules" } }
            }
        }
    };
    Page { title, words: "", viewer, main }.answer(status, phrase)
}

/// Makes browsers send the origin with the forms of a page: with `no-referrer`, they would send `null`.
pub(super) fn with_forms(mut answer: Response<Body>) -> Response<Body> {
    set(&mut answer, header::REFERRER_POLICY, "same-origin");
    answer
}

/// The style sheet, which browsers keep: its address has the version of the program.
pub(super) fn style() -> Response<Body> {
    let mut answer = answer(StatusCode::OK, "OK", STYLE);
    set(&mut answer, header::CONTENT_TYPE, "text/css; charset=utf-8");
    set(&mut answer, header::CACHE_CONTROL, "public, max-age=3600");
    with_policy(answer)
}

/// What crawlers may open: lists, and each module. Below are the pages of all versions, for which archives are read.
pub(super) fn robots() -> Response<Body> {
    let mut answer = answer(StatusCode::OK, "OK", "User-agent: *\nDisallow: /modules/*/*/*/\n");
    set(&mut answer, header::CONTENT_TYPE, "text/plain; charset=utf-8");
    set(&mut answer, header::CACHE_CONTROL, "public, max-age=3600");
    with_policy(answer)
}

fn with_policy(mut answer: Response<Body>) -> Response<Body> {
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        set(&mut answer, name, value);
    }
    answer
}
