//! The order of requests, against a GitHub that answers from a script and notes what it is asked.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt as _, stream};
use jiff::{Timestamp, fmt::rfc2822::DateTimePrinter};
use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use super::{
    super::{
        client::Client,
        credential::{AppKey, Credential, tests::app},
        settings::Settings,
        token::TokenCache,
        transport::Scope,
    },
    *,
};
use crate::controller::failure::{Class, Failure, Reason};
use crate::domain::{ArchiveFormat, Repository};

const SITE: &str = "https://github.com/acme/net/archive/refs/tags/";
const API: &str = "https://api.github.com/repos/acme/net";
const LOAD: &str = "https://codeload.github.com/acme/net/zip/";
const MINT: &str = "POST https://api.github.com/";
/// In place of a request: later ones are sent on new connections.
const FORGOTTEN: &str = "new connections";

#[derive(Clone)]
struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    chunks: Vec<&'static [u8]>,
    cut: bool,
    endless: bool,
}

impl Answer {
    fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

fn answer(status: u16, body: &'static str) -> Answer {
    Answer { status, headers: Vec::new(), chunks: vec![body.as_bytes()], cut: false, endless: false }
}

fn redirect(status: u16, to: impl Into<String>) -> Answer {
    answer(status, "").header("location", to)
}

fn grant(token: &str) -> Answer {
    let body = format!(r#"{{"token":"{token}","expires_at":"2999-01-01T00:00:00Z"}}"#);
    answer(201, body.leak())
}

/// Answers each address in turn, the last one again and again; what it does not know is 404.
#[derive(Default)]
struct Script {
    answers: Mutex<HashMap<String, Vec<Answer>>>,
    seen: Mutex<Vec<String>>,
}

impl Script {
    fn reply(&self, request: &str, token: Option<&str>) -> Response {
        let noted = token.map_or_else(|| request.to_owned(), |token| format!("{request} with {token}"));
        self.seen.lock().unwrap().push(noted);
        let mut answers = self.answers.lock().unwrap();
        let given = match answers.get_mut(request) {
            None if request.contains("//api.") => answer(404, r#"{"message":"Not Found"}"#),
            None => answer(404, "404: Not Found"),
            Some(left) if left.len() == 1 => left[0].clone(),
            Some(left) => left.remove(0),
        };
        let mut response = http::Response::builder().status(given.status);
        for (name, value) in given.headers {
            response = response.header(name, value);
        }
        let mut chunks: Vec<io::Result<&[u8]>> = given.chunks.into_iter().map(Ok).collect();
        if given.cut {
            chunks.push(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        let end =
            if given.endless { stream::pending().left_stream() } else { stream::empty().right_stream() };
        response.body(reqwest::Body::wrap_stream(stream::iter(chunks).chain(end))).unwrap().into()
    }
}

impl Transport for Script {
    async fn get(&self, url: &Url, token: Option<&SecretString>) -> Result<Response, FetchError> {
        tokio::task::yield_now().await;
        Ok(self.reply(url.as_str(), token.map(ExposeSecret::expose_secret)))
    }

    async fn mint(&self, api: &Url, _: &AppKey, scope: Scope) -> Result<Response, FetchError> {
        tokio::task::yield_now().await;
        let all = if scope == Scope::Everything { " for all" } else { "" };
        Ok(self.reply(&format!("POST {api}{all}"), None))
    }

    fn forget_connections(&self) {
        self.seen.lock().unwrap().push(FORGOTTEN.to_owned());
    }
}

fn github<const N: usize>(answers: [(String, Vec<Answer>); N]) -> Client<Script> {
    let script = Script { answers: Mutex::new(answers.into()), seen: Mutex::default() };
    let settings =
        Settings { max_archive_bytes: 8, total_timeout: Duration::from_mins(1), ..Settings::default() };
    Client::new(script, &settings)
}

/// The same, whose tokens have the age that the test gives them.
fn github_at<const N: usize>(answers: [(String, Vec<Answer>); N]) -> (Client<Script>, impl Fn(u64)) {
    let seconds = Arc::new(AtomicU64::new(0));
    let (start, clock) = (Instant::now(), Arc::clone(&seconds));
    let now = move || start + Duration::from_secs(clock.load(Ordering::SeqCst));
    let client = Client { tokens: TokenCache::new(now), ..github(answers) };
    (client, move |at| seconds.store(at, Ordering::SeqCst))
}

impl Client<Script> {
    async fn get(&self, credential: &Credential) -> (Result<Fetched, FetchError>, Vec<u8>) {
        let repository = Repository::from_parts("acme", "net").unwrap();
        let tags = ["1.0.0".to_owned(), "v1.0.0".to_owned()];
        let mut file = File::from_std(tempfile::tempfile().unwrap());
        let session = Session::new(self, &repository, credential);
        let outcome = movable(session.fetch(&tags, ArchiveFormat::Zip, &mut file)).await;
        let mut bytes = Vec::new();
        file.rewind().await.unwrap();
        file.read_to_end(&mut bytes).await.unwrap();
        (outcome, bytes)
    }

    async fn error(&self, credential: &Credential) -> FetchError {
        self.get(credential).await.0.expect_err("a failure was expected")
    }

    fn seen(&self) -> Vec<String> {
        std::mem::take(&mut *self.transport.seen.lock().unwrap())
    }

    /// Whether other fetches with the credential fail without a request.
    fn knows_rejection(&self, credential: &Credential) -> bool {
        let repository = Repository::from_parts("acme", "other").unwrap();
        let account = Session::new(self, &repository, credential).account;
        self.refusals.recent(&account, None, Instant::now()).is_some()
    }
}

/// A controller runs fetches as tasks, which move between threads.
fn movable<F: Future + Send>(future: F) -> F {
    future
}

fn token() -> Credential {
    Credential::Token("pat".into())
}

fn archive() -> (String, Vec<Answer>) {
    (format!("{LOAD}v1?token=link"), vec![answer(200, "archive")])
}

fn site(tag: &str, to: &str) -> (String, Vec<Answer>) {
    (format!("{SITE}{tag}.zip"), vec![redirect(302, format!("{LOAD}{to}"))])
}

fn api(tag: &str, to: &str) -> (String, Vec<Answer>) {
    (format!("{API}/zipball/refs/tags/{tag}"), vec![redirect(302, format!("{LOAD}{to}"))])
}

#[tokio::test]
async fn anonymous_takes_two_requests_and_no_quota() {
    let github = github([site("1.0.0", "v1?token=link"), archive()]);
    let (fetched, bytes) = github.get(&Credential::Anonymous).await;
    let url = format!("{SITE}1.0.0.zip");
    let expected = Fetched { tag: "1.0.0".into(), url: url.clone(), bytes: 7, moved_to: None };
    assert_eq!(fetched.unwrap(), expected);
    assert_eq!(bytes, b"archive");
    assert_eq!(github.seen(), [url, format!("{LOAD}v1?token=link")]);
}

#[tokio::test]
async fn the_other_spelling_takes_two_more() {
    let github = github([site("1.0.0", "none"), site("v1.0.0", "v1?token=link"), archive()]);
    assert_eq!(github.get(&Credential::Anonymous).await.0.unwrap().tag, "v1.0.0");
    assert_eq!(github.seen().len(), 4);
}

#[tokio::test]
async fn anonymous_tells_a_missing_tag_from_a_missing_repository() {
    let endless = Answer { endless: true, ..answer(404, "404") };
    let none = (format!("{LOAD}none"), vec![endless, answer(404, "404: Not Found")]);
    let no_tag = github([site("1.0.0", "none"), site("v1.0.0", "none"), none]);
    let error = no_tag.error(&Credential::Anonymous).await;
    assert!(matches!(&error, FetchError::TagNotFound { tried, .. } if tried.len() == 2), "{error}");

    let nothing = github([]);
    let error = nothing.error(&Credential::Anonymous).await;
    assert!(matches!(error, FetchError::RepositoryNotFound { authenticated: false, .. }), "{error}");
    assert_eq!(nothing.seen().len(), 1);
}

#[tokio::test]
async fn only_the_api_sees_the_token() {
    let moved = "https://api.github.com/repositories/9/zip";
    let github = github([
        (format!("{API}/zipball/refs/tags/1.0.0"), vec![redirect(301, moved)]),
        (moved.to_owned(), vec![redirect(302, format!("{LOAD}v1?token=link"))]),
        archive(),
    ]);
    github.get(&token()).await.0.unwrap();
    assert_eq!(
        github.seen(),
        [
            format!("{API}/zipball/refs/tags/1.0.0 with pat"),
            format!("{moved} with pat"),
            format!("{LOAD}v1?token=link"),
        ]
    );
}

#[tokio::test]
async fn with_a_token_the_repository_itself_is_asked_when_nothing_else_tells() {
    let tag = github([(API.to_owned(), vec![answer(200, "{}")])]);
    assert!(matches!(tag.error(&token()).await, FetchError::TagNotFound { .. }));
    assert_eq!(tag.seen().len(), 3);

    let repository = github([]);
    let error = repository.error(&token()).await;
    assert!(matches!(error, FetchError::RepositoryNotFound { authenticated: true, .. }), "{error}");
    assert_eq!(repository.seen().len(), 3);
    let net = Repository::from_parts("acme", "net").unwrap();
    let is_known = |github: &Client<Script>| {
        let Session { account, key, .. } = Session::new(github, &net, &token());
        github.missing.recent(&account, &key, None, Instant::now()).is_some()
    };
    assert!(is_known(&repository) && !is_known(&tag));

    let handed_over = github([api("1.0.0", "none")]);
    assert!(matches!(handed_over.error(&token()).await, FetchError::TagNotFound { .. }));
    assert_eq!(handed_over.seen().len(), 3, "one hand-over is proof enough");
}

#[tokio::test]
async fn an_app_mints_once_for_all() {
    let github = github([(MINT.into(), vec![grant("ghs")]), api("1.0.0", "v1?token=link"), archive()]);
    let app = Credential::App(app());
    let all = futures::future::join_all((0..8).map(|_| github.get(&app))).await;
    assert!(all.iter().all(|(outcome, _)| outcome.is_ok()));
    let seen = github.seen();
    assert_eq!(seen.iter().filter(|r| r.starts_with("POST")).count(), 1);
    assert!(seen.contains(&format!("{API}/zipball/refs/tags/1.0.0 with ghs")));
}

#[tokio::test]
async fn a_token_that_ended_before_its_time_is_replaced_once() {
    let (url, found) = api("1.0.0", "v1?token=link");
    let bad = answer(401, r#"{"message":"Bad credentials"}"#);
    let (github, at) = github_at([
        (MINT.into(), vec![grant("old"), grant("new")]),
        (url.clone(), vec![found[0].clone(), bad.clone(), found[0].clone(), bad]),
        archive(),
    ]);
    let app = Credential::App(app());
    github.get(&app).await.0.unwrap();
    at(100);
    github.seen();
    github.get(&app).await.0.unwrap();
    assert_eq!(github.seen()[..3], [format!("{url} with old"), MINT.into(), format!("{url} with new")]);

    // The new one is refused at once: kept for its first minute, then believed, and not replaced as well.
    for (now, requests) in [(101, 1), (159, 1), (160, 1), (400, 1)] {
        at(now);
        let error = github.error(&app).await;
        let new = matches!(error, FetchError::TokenNotReady { status: 401, .. });
        let refused = matches!(error, FetchError::CredentialRefused { status: 401, .. });
        assert_eq!((new, refused), (now < 160, now >= 160), "{error}");
        assert_eq!(github.seen().len(), requests, "no token is asked for");
    }
}

#[tokio::test]
async fn a_refusal_of_a_new_token_does_not_count() {
    let (url, found) = api("1.0.0", "v1?token=link");
    for status in [401, 403, 404] {
        let lagging = || answer(status, r#"{"message":"Not yet"}"#);
        let urls = [url.clone(), url.replace("1.0.0", "v1.0.0"), API.to_owned()];
        let script = urls.map(|url| (url, vec![lagging()]));
        let [first, second, repository] = script;
        let (github, at) =
            github_at([(MINT.into(), vec![grant("new")]), first, second, repository, archive()]);
        let app = Credential::App(app());
        for now in [0, 5, 59] {
            at(now);
            let error = github.error(&app).await;
            assert!(matches!(error, FetchError::TokenNotReady { status: s, .. } if s == status), "{error}");
        }
        at(60);
        let error = github.error(&app).await;
        let counts = match status {
            401 => matches!(error, FetchError::CredentialRefused { .. }),
            403 => matches!(error, FetchError::Forbidden { .. }),
            _ => matches!(error, FetchError::RepositoryNotFound { authenticated: true, .. }),
        };
        assert!(counts, "{error}");
        assert_eq!(github.seen().iter().filter(|r| r.starts_with("POST")).count(), 1);
        // It is the same token that works in the end.
        github.transport.answers.lock().unwrap().insert(url.clone(), found.clone());
        github.get(&app).await.0.unwrap();
        assert_eq!(github.seen()[0], format!("{url} with new"));
    }
    // A personal token is never new.
    let bad = answer(401, r#"{"message":"Bad credentials"}"#);
    let personal = github([(url, vec![bad])]).error(&token()).await;
    assert!(matches!(personal, FetchError::CredentialRefused { .. }), "{personal}");
}

#[tokio::test]
async fn a_rate_limit_is_one_whatever_the_age_of_the_token() {
    let (url, _) = api("1.0.0", "");
    let busy = answer(403, r#"{"message":"You have exceeded a secondary rate limit."}"#);
    let (github, _) = github_at([(MINT.into(), vec![grant("new")]), (url, vec![busy])]);
    let error = github.error(&Credential::App(app())).await;
    assert!(matches!(error, FetchError::RateLimited { secondary: true, .. }), "{error}");
}

#[tokio::test]
async fn the_spelling_that_a_new_token_did_not_find_is_asked_for_again() {
    let missing = || answer(404, r#"{"message":"Not Found"}"#);
    let (written, found) = api("1.0.0", "v1?token=link");
    let (other, _) = api("v1.0.0", "");
    let other_found = vec![redirect(302, format!("{LOAD}other"))];
    let (github, at) = github_at([
        (MINT.into(), vec![grant("new")]),
        (written.clone(), vec![missing(), found[0].clone()]),
        (other.clone(), other_found.clone()),
        (format!("{LOAD}other"), vec![answer(200, "other")]),
        archive(),
    ]);
    let app = Credential::App(app());
    let (fetched, bytes) = github.get(&app).await;
    assert_eq!((fetched.unwrap().tag.as_str(), &bytes[..]), ("1.0.0", &b"archive"[..]));

    // Where it is really not there, the other is taken; and once the token has worked, nothing is asked twice.
    for (now, requests) in [(1, 3), (70, 3)] {
        at(now);
        github.transport.answers.lock().unwrap().insert(written.clone(), vec![missing()]);
        github.seen();
        assert_eq!(github.get(&app).await.0.unwrap().tag, "v1.0.0");
        assert_eq!(github.seen().len(), requests, "at {now}");
    }
    let (fresh, _) = github_at([
        (MINT.into(), vec![grant("new")]),
        (other, other_found),
        (format!("{LOAD}other"), vec![answer(200, "other")]),
    ]);
    assert_eq!(fresh.get(&app).await.0.unwrap().tag, "v1.0.0");
    assert_eq!(fresh.seen().len(), 5, "the first spelling twice");
}

#[tokio::test]
async fn a_request_for_a_token_follows_no_redirect() {
    for status in [301, 302, 303, 307, 308] {
        let github = github([(MINT.into(), vec![redirect(status, "https://sso.example/login?x=HIDDEN")])]);
        let error = github.error(&Credential::App(app())).await;
        assert!(matches!(&error, FetchError::TokenRedirected { to, .. } if to == "sso.example"), "{error}");
        let text = error.to_string();
        assert!(text.contains("api.github.com redirected") && !text.contains("HIDDEN"), "{text}");
        assert_eq!(github.seen(), [MINT]);
    }
}

#[tokio::test]
async fn a_token_is_asked_for_reading_and_for_more_only_where_that_cannot_be_had() {
    let refused =
        answer(422, r#"{"message":"The permissions requested are not granted to this installation."}"#);
    let (all, ready) = (format!("{MINT} for all"), api("1.0.0", "v1?token=link"));
    let wide =
        github([(MINT.into(), vec![refused.clone()]), (all.clone(), vec![grant("ghs")]), ready, archive()]);
    wide.get(&Credential::App(app())).await.0.unwrap();
    assert_eq!(wide.seen()[..2], [MINT.to_owned(), all.clone()]);

    let none = github([(MINT.into(), vec![refused.clone()]), (all, vec![refused])]);
    let error = none.error(&Credential::App(app())).await;
    assert!(matches!(error, FetchError::CredentialRefused { status: 422, .. }), "{error}");
}

#[tokio::test]
async fn a_permission_that_an_app_gets_later_is_used_by_the_next_fetch() {
    let lacking = answer(422, r#"{"message":"The permissions requested are not granted."}"#);
    let forbidden = answer(403, r#"{"message":"Resource not accessible by integration"}"#);
    let (url, found) = api("1.0.0", "v1?token=link");
    let (github, at) = github_at([
        (MINT.into(), vec![lacking.clone(), lacking, grant("new")]),
        (format!("{MINT} for all"), vec![grant("old")]),
        (url.clone(), vec![forbidden.clone(), forbidden.clone(), forbidden, found[0].clone()]),
        archive(),
    ]);
    let app = Credential::App(app());
    for now in [0, 60, 61] {
        at(now);
        let error = github.error(&app).await;
        let counts = matches!(error, FetchError::Forbidden { status: 403, .. });
        assert_eq!(counts, now >= 60, "{error}");
    }
    assert_eq!(github.seen().last(), Some(&format!("{url} with old")), "a new token would not be better");
    at(71);
    github.get(&app).await.0.unwrap();
    assert_eq!(github.seen()[..2], [MINT.to_owned(), format!("{url} with new")]);
}

#[tokio::test]
async fn a_rejected_credential_is_known_to_other_fetches() {
    let bad = || answer(401, r#"{"message":"Bad credentials"}"#);
    for (credential, mint, is_known) in [
        (token(), grant("ghs"), true),
        (Credential::App(app()), bad(), true),
        // Another repository may accept the token.
        (Credential::App(app()), grant("ghs"), false),
    ] {
        let (url, found) = api("1.0.0", "v1?token=link");
        let (github, at) = github_at([(MINT.into(), vec![mint]), (url.clone(), vec![bad()]), archive()]);
        for now in [0, 60] {
            at(now);
            github.error(&credential).await;
        }
        assert_eq!(github.knows_rejection(&credential), is_known);
        let mut answers = HashMap::from([(MINT.to_owned(), vec![grant("new")]), (url, found)]);
        answers.extend([archive()]);
        *github.transport.answers.lock().unwrap() = answers;
        github.get(&credential).await.0.unwrap();
        assert!(!github.knows_rejection(&credential));
    }
}

#[tokio::test]
async fn a_rejection_of_a_personal_token_that_has_just_worked_is_in_doubt() {
    let (url, found) = api("1.0.0", "v1?token=link");
    let bad = answer(401, r#"{"message":"Bad credentials"}"#);
    let github = github([(url, vec![found[0].clone(), bad, found[0].clone()]), archive()]);
    github.get(&token()).await.0.unwrap();
    let error = github.error(&token()).await;
    assert!(matches!(error, FetchError::TokenDoubted { status: 401, .. }), "{error}");
    let failure = Failure::from(error);
    assert_eq!((failure.reason, failure.class), (Reason::TokenNotReady, Class::Retry));
    assert!(github.knows_rejection(&token()), "another request follows after some seconds");
    github.get(&token()).await.0.unwrap();
    assert!(!github.knows_rejection(&token()));
}

#[tokio::test]
async fn a_rejection_without_an_explanation_is_not_about_the_credential() {
    let url = format!("{API}/zipball/refs/tags/1.0.0");
    for status in [401, 403, 404] {
        for (kind, body, is_page) in [
            ("text/html", "<h1>default backend - 404</h1>", true),
            ("text/plain", "404 page not found", false),
            ("application/json", r#"{"code":5}"#, false),
        ] {
            for (credential, at) in [
                (token(), url.as_str()),
                (Credential::App(app()), url.as_str()),
                (Credential::App(app()), MINT),
            ] {
                let given = answer(status, body).header("content-type", kind);
                let github = github([(MINT.into(), vec![grant("ghs")]), (at.to_owned(), vec![given])]);
                let error = github.error(&credential).await;
                let (from, is_right) = match &error {
                    FetchError::WebPage { host } => (host.as_str(), is_page),
                    FetchError::Unexpected { host, status: code, .. } => {
                        (host.as_str(), !is_page && *code == status)
                    }
                    _ => ("", false),
                };
                assert!(from == "api.github.com" && is_right, "{status} {kind}: {error}");
                assert_eq!(Failure::from(error).class, Class::Retry);
                assert!(!github.knows_rejection(&credential));
            }
        }
    }
}

/// An Enterprise Server without subdomains serves archives under its own name. That service answers in plain text.
#[tokio::test]
async fn a_plain_text_of_the_service_of_archives_is_an_explanation() {
    type Is = fn(&FetchError) -> bool;
    let api = "https://ghes.example/api/v3/repos/acme/net/zipball/refs/tags/1.0.0";
    let load = "https://ghes.example/_codeload/acme/net/legacy.zip/refs/tags/1.0.0";
    let table: [(u16, Is); 3] = [
        (404, |error| matches!(error, FetchError::TagNotFound { .. })),
        (403, |error| matches!(error, FetchError::Forbidden { message, .. } if message == "no")),
        (401, |error| matches!(error, FetchError::CredentialRefused { status: 401, .. })),
    ];
    for (status, is_right) in table {
        let answers = [(api, redirect(302, load)), (load, answer(status, "no"))];
        let github = github(answers.map(|(url, answer)| (url.to_owned(), vec![answer])));
        let repository = Repository::parse("https://ghes.example/acme/net").unwrap();
        let credential = token();
        let session = Session::new(&github, &repository, &credential);
        let mut file = File::from_std(tempfile::tempfile().unwrap());
        let error = session.fetch(&["1.0.0".to_owned()], ArchiveFormat::Zip, &mut file).await.unwrap_err();
        assert!(is_right(&error), "{status}: {error}");
        assert_eq!(github.seen(), [api, load].map(|url| format!("{url} with pat")));
    }
}

#[tokio::test]
async fn times_in_a_signature_that_github_rejects_are_about_the_clocks() {
    for (claim, differ) in [
        ("'Issued at' claim ('iat') must be an Integer", Some("differ by 120")),
        ("'Expiration time' claim ('exp') is too far in the future", Some("differ: correct")),
        ("'Issuer' claim ('iss') must be an Integer", None),
    ] {
        let earlier = Timestamp::now() - Duration::from_mins(20);
        let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&earlier).unwrap();
        let body: &'static str = format!(r#"{{"message":"{claim}"}}"#).leak();
        let has_date = differ != Some("differ: correct");
        let headers = has_date.then_some(("date", date)).into_iter().collect();
        let github = github([(MINT.into(), vec![Answer { headers, ..answer(401, body) }])]);
        let app = Credential::App(app());
        let error = github.error(&app).await;
        let text = error.to_string();
        let clocks =
            differ.map(|differ| format!("the clocks of the operator's node and of api.github.com {differ}"));
        assert!(clocks.is_none_or(|clocks| text.contains(&clocks)), "{text}");
        assert!(text.contains(claim) && text.contains("clock") == differ.is_some(), "{text}");
        let class = if differ.is_some() { Class::Retry } else { Class::Stalled };
        // Each further rejection would count against the address.
        assert_eq!((Failure::from(error).class, github.knows_rejection(&app)), (class, true));
    }
}

#[tokio::test]
async fn a_400_of_the_host_of_archives_is_an_outage_and_ends_its_connections() {
    let load = format!("{LOAD}v1");
    for (status, kind, expected) in [
        (400, "text/plain; charset=utf-8", "HTTP 400: 400: Invalid request"),
        (408, "text/plain; charset=utf-8", "HTTP 408: 400: Invalid request"),
        (400, "text/html", "HTTP 400"),
    ] {
        for credential in [Credential::Anonymous, token()] {
            let bad = answer(status, "400: Invalid request").header("content-type", kind);
            let github = github([site("1.0.0", "v1"), api("1.0.0", "v1"), (load.clone(), vec![bad])]);
            let error = github.error(&credential).await;
            assert_eq!(error.to_string(), format!("codeload.github.com failed with {expected}"));
            assert_eq!(Failure::from(error).reason, Reason::GitHubUnavailable);
            assert_eq!(github.seen()[1..], [load.clone(), FORGOTTEN.to_owned()]);
        }
    }
    // That of another host is not GitHub's.
    let portal = "https://codeload.portal.example/";
    let github = github([
        (format!("{SITE}1.0.0.zip"), vec![redirect(302, portal)]),
        (portal.to_owned(), vec![answer(400, "400: Invalid request")]),
    ]);
    let error = github.error(&Credential::Anonymous).await;
    assert!(matches!(error, FetchError::Unexpected { status: 400, .. }), "{error}");
    assert_eq!(github.seen().last().unwrap(), portal);
}

#[tokio::test]
async fn the_api_of_another_host_is_named_with_the_one_that_redirects_to_it() {
    for (there, host, site) in [
        ("https://git.example/api/v3/repos/acme/net", "git.example", "git.example"),
        ("https://api.octo.ghe.com/repos/acme/net", "api.octo.ghe.com", "octo.ghe.com"),
    ] {
        for (by, status) in [(301, 404), (302, 404), (307, 401), (308, 403)] {
            let github = github([
                (format!("{API}/zipball/refs/tags/1.0.0"), vec![redirect(by, there)]),
                (there.to_owned(), vec![answer(status, r#"{"message":"Not Found"}"#)]),
            ]);
            let expected = format!(
                "api.github.com redirected to {host}, which does not get the credential: write https://{site} in repoUrl, \
                 and start the operator with --github-host {site}"
            );
            assert_eq!(github.error(&token()).await.to_string(), expected, "{by} {status}");
            assert_eq!(github.seen().last().unwrap(), there);
        }
    }
}

#[tokio::test]
async fn limits_on_asking_for_tokens_are_apart_from_those_on_using_them() {
    let reset = (Timestamp::now().as_second() + 900).to_string();
    let minted = grant("new").header("x-ratelimit-remaining", "0").header("x-ratelimit-reset", &*reset);
    let used = redirect(302, format!("{LOAD}v1?token=link"))
        .header("x-ratelimit-remaining", "7")
        .header("x-ratelimit-reset", &*reset);
    let (github, at) = github_at([(MINT.into(), vec![minted]), (api("1.0.0", "").0, vec![used]), archive()]);
    let app = Credential::App(app());
    for _ in 0..2 {
        github.get(&app).await.0.unwrap();
        assert_eq!(github.rate_limits.remaining(Now::read()), [("app", 7)]);
    }
    // When the next token is due, the App has to wait.
    at(40_000_000_000);
    github.seen();
    let error = github.error(&app).await;
    assert!(matches!(error, FetchError::RateLimited { secondary: false, .. }), "{error}");
    assert_eq!(github.seen(), [""; 0]);
}

#[tokio::test]
async fn login_pages_ask_for_a_credential() {
    let page =
        |status| answer(status, "<html>sign in</html>").header("content-type", "text/html; charset=utf-8");
    let login = "https://github.com/login?return_to=x";
    let to_login = |status| {
        github([
            (format!("{SITE}1.0.0.zip"), vec![redirect(302, login)]),
            (format!("{API}/zipball/refs/tags/1.0.0"), vec![redirect(302, login)]),
            (login.to_owned(), vec![page(status)]),
        ])
    };
    for status in [200, 401, 404] {
        let error = to_login(status).error(&Credential::Anonymous).await;
        let expected = matches!(error, FetchError::RepositoryNotFound { authenticated: false, .. });
        assert!(expected && error.to_string().contains("useAuthenticatedClient"), "{status}: {error}");
    }
    // A site with single sign-on.
    let provider = "https://idp.example/saml";
    let saml = github([
        (format!("{SITE}1.0.0.zip"), vec![redirect(302, login)]),
        (login.to_owned(), vec![redirect(302, provider)]),
        (provider.to_owned(), vec![page(200)]),
    ]);
    let error = saml.error(&Credential::Anonymous).await;
    assert!(matches!(error, FetchError::RepositoryNotFound { authenticated: false, .. }), "{error}");
    let direct = github([(format!("{SITE}1.0.0.zip"), vec![page(200)])]);
    let error = direct.error(&Credential::Anonymous).await;
    assert!(matches!(error, FetchError::RepositoryNotFound { authenticated: false, .. }), "{error}");
    // With a credential, the repository's host has no reason to show one.
    let error = to_login(200).error(&token()).await;
    assert!(matches!(&error, FetchError::WebPage { host } if host == "github.com"), "{error}");
    // Another host's page is about something else than the repository.
    let portal = "https://portal.example/login";
    for status in [200, 401, 403, 404] {
        let github = github([
            (format!("{SITE}1.0.0.zip"), vec![redirect(302, portal)]),
            (format!("{API}/zipball/refs/tags/1.0.0"), vec![redirect(302, portal)]),
            (portal.to_owned(), vec![page(status)]),
        ]);
        for credential in [Credential::Anonymous, token()] {
            let error = github.error(&credential).await;
            assert!(matches!(&error, FetchError::WebPage { host } if host == "portal.example"), "{error}");
        }
    }
}

#[tokio::test]
async fn a_401_of_another_host_is_not_about_the_credential_or_the_repository() {
    let portal = "https://portal.example/";
    let github = github([
        (format!("{SITE}1.0.0.zip"), vec![redirect(302, portal)]),
        (format!("{API}/zipball/refs/tags/1.0.0"), vec![redirect(302, portal)]),
        (portal.to_owned(), vec![answer(401, "who are you?")]),
    ]);
    for credential in [Credential::Anonymous, token()] {
        let error = github.error(&credential).await;
        assert!(matches!(&error, FetchError::Forbidden { status: 401, .. }), "{error}");
    }
}

#[tokio::test]
async fn limits_of_another_host_hold_back_no_other_fetch() {
    // Its name alone does not make it GitHub's.
    let portal = "https://codeload.portal.example/";
    let github = |given: Answer| {
        github([
            (format!("{SITE}1.0.0.zip"), vec![redirect(302, portal)]),
            (format!("{API}/zipball/refs/tags/1.0.0"), vec![redirect(302, portal)]),
            (portal.to_owned(), vec![given, answer(200, "archive")]),
        ])
    };
    for credential in [Credential::Anonymous, token()] {
        for status in [429, 503] {
            for (wait, longest) in [("30", 31), ("90000", 65 * 60 + 1)] {
                let busy = github(answer(status, "busy").header("retry-after", wait));
                let now = Timestamp::now();
                let error = busy.error(&credential).await;
                assert!(
                    matches!(&error, FetchError::Busy { host, .. } if host == "codeload.portal.example"),
                    "{error}"
                );
                let Class::RetryAfter(until) = Failure::from(error).class else { panic!("it waits") };
                assert!((longest - 2..=longest + 1).contains(&until.duration_since(now).as_secs()));
                busy.get(&credential).await.0.unwrap();
            }
            let untimed = github(answer(status, "busy"));
            let error = untimed.error(&credential).await;
            assert!(matches!(error, FetchError::Server { .. }), "{error}");
            untimed.get(&credential).await.0.unwrap();
        }
        let spent = answer(403, "{}").header("x-ratelimit-remaining", "0").header("retry-after", "900");
        let spent = github(spent);
        let error = spent.error(&credential).await;
        assert!(matches!(error, FetchError::Forbidden { .. }), "{error}");
        spent.get(&credential).await.0.unwrap();
    }
}

#[tokio::test]
async fn a_404_after_a_rename_is_about_the_repository() {
    let new = format!("{}1.0.0.zip", SITE.replace("acme/net", "new/net2"));
    for status in [301, 302, 307, 308] {
        let renamed = github([(format!("{SITE}1.0.0.zip"), vec![redirect(status, &*new)])]);
        let error = renamed.error(&Credential::Anonymous).await;
        assert!(matches!(error, FetchError::RepositoryNotFound { .. }), "{status}: {error}");
    }
    // Archives from a host that is not known yet: the tag is missing, and its other spelling is requested.
    let files = |tag: &str| vec![redirect(302, format!("https://files.example/{tag}"))];
    let elsewhere = github([
        (format!("{SITE}1.0.0.zip"), files("1.0.0")),
        (format!("{SITE}v1.0.0.zip"), files("v1.0.0")),
        ("https://files.example/v1.0.0".to_owned(), vec![answer(200, "archive")]),
    ]);
    assert_eq!(elsewhere.get(&Credential::Anonymous).await.0.unwrap().tag, "v1.0.0");
}

#[tokio::test]
async fn no_token_is_in_an_explanation() {
    let body = r#"{"message":"rejected: authorization: bearer pat; see https://h.example/?t=pat"}"#;
    for status in [401, 403] {
        let github = github([(format!("{API}/zipball/refs/tags/1.0.0"), vec![answer(status, body)])]);
        let text = github.error(&token()).await.to_string();
        assert!(
            text.contains("bearer [redacted]") && !text.contains("bearer pat") && !text.contains("?t="),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_token_that_is_rejected_for_almost_a_minute_costs_no_stall() {
    let (url, found) = api("1.0.0", "v1?token=link");
    for (known, jitter) in [(59, 0.0), (59, 0.5), (59, 1.0), (30, 0.5)] {
        let rejected = answer(401, r#"{"message":"Bad credentials"}"#);
        let (github, at) =
            github_at([(MINT.into(), vec![grant("new")]), (url.clone(), vec![rejected]), archive()]);
        let (mut now, mut failures) = (Duration::ZERO, 0);
        let app = Credential::App(app());
        loop {
            at(now.as_secs());
            if now >= Duration::from_secs(known) {
                github.transport.answers.lock().unwrap().insert(url.clone(), found.clone());
            }
            let Err(error) = github.get(&app).await.0 else { break };
            failures += 1;
            let failure = Failure::from(error);
            assert_eq!(failure.class, Class::Retry, "{}", failure.message);
            now += failure.delay(failures, now, jitter, Timestamp::now());
        }
        assert!(now < Duration::from_secs(known + 25), "published after {now:?}");
        assert!((3..=8).contains(&failures), "{failures} attempts were rejected");
        assert_eq!(github.seen().iter().filter(|r| r.starts_with("POST")).count(), 1);
    }
    // From a minute on, the rejection counts.
    let rejected = answer(401, r#"{"message":"Bad credentials"}"#);
    let (github, at) = github_at([(MINT.into(), vec![grant("new")]), (url, vec![rejected])]);
    for (now, class) in [(0, Class::Retry), (59, Class::Retry), (60, Class::Stalled)] {
        at(now);
        assert_eq!(Failure::from(github.error(&Credential::App(app())).await).class, class, "at {now}");
    }
}

#[tokio::test]
async fn a_page_that_forbids_is_a_limit_for_anonymous_requests() {
    let page = || answer(403, "<html>Whoa there!</html>").header("content-type", "text/html");
    for at_site in [true, false] {
        let github = if at_site {
            github([(format!("{SITE}1.0.0.zip"), vec![page()])])
        } else {
            github([site("1.0.0", "v1"), (format!("{LOAD}v1"), vec![page()])])
        };
        for _ in 0..3 {
            let error = github.error(&Credential::Anonymous).await;
            assert!(matches!(error, FetchError::Blocked { .. }), "{error}");
            assert!(error.to_string().contains(" asks to wait until "), "{error}");
        }
        assert_eq!(github.seen().len(), if at_site { 1 } else { 2 });
    }
    let after_link = github([api("1.0.0", "v1"), (format!("{LOAD}v1"), vec![page()])]);
    let error = after_link.error(&token()).await;
    assert!(error.to_string().ends_with(": if this persists, check the proxy"), "{error}");
    let api = github([(format!("{API}/zipball/refs/tags/1.0.0"), vec![page()])]);
    let error = api.error(&token()).await;
    assert!(matches!(error, FetchError::WebPage { .. }), "{error}");
}

#[tokio::test]
async fn a_repository_that_moved_is_named() {
    let moved = |status, to: &str| vec![redirect(status, to.to_owned())];
    let new = format!("{}1.0.0.zip", SITE.replace("acme/net", "new/net2"));
    let load = LOAD.replace("acme/net", "new/net2");
    let to_load = redirect(302, format!("{load}v1?token=link"));
    for status in [301, 302, 303, 307, 308] {
        let github = github([
            (format!("{SITE}1.0.0.zip"), moved(status, &new)),
            (new.clone(), vec![to_load.clone()]),
            (
                format!("{API}/zipball/refs/tags/1.0.0"),
                moved(status, "https://api.github.com/repositories/9"),
            ),
            ("https://api.github.com/repositories/9".to_owned(), vec![to_load.clone()]),
            (format!("{load}v1?token=link"), vec![answer(200, "archive")]),
        ]);
        for credential in [Credential::Anonymous, token()] {
            let fetched = github.get(&credential).await.0.unwrap();
            assert_eq!(fetched.moved_to.as_deref(), Some("https://github.com/new/net2"), "{status}");
        }
    }
}

#[tokio::test]
async fn whoever_left_the_api_does_not_come_back_with_the_token() {
    let back = "https://api.github.com/elsewhere";
    let github = github([
        (format!("{API}/zipball/refs/tags/1.0.0"), vec![redirect(302, "https://portal.example/")]),
        ("https://portal.example/".to_owned(), vec![redirect(302, back)]),
        (back.to_owned(), vec![answer(200, "archive")]),
    ]);
    github.get(&token()).await.0.unwrap();
    let seen = github.seen();
    assert_eq!(seen[1..], ["https://portal.example/".to_owned(), back.to_owned()], "{seen:?}");
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let url = || format!("{API}/zipball/refs/tags/1.0.0");
    let refuse = |status, body| github([(url(), vec![answer(status, body)])]);
    let error = refuse(401, r#"{"message":"Bad credentials"}"#).error(&token()).await;
    assert!(matches!(error, FetchError::CredentialRefused { status: 401, .. }), "{error}");
    let error = refuse(403, r#"{"message":"Resource protected by SAML"}"#).error(&token()).await;
    assert!(matches!(&error, FetchError::Forbidden { message, .. } if message.contains("SAML")), "{error}");
    let error = refuse(502, "<html>").error(&token()).await;
    assert!(matches!(error, FetchError::Server { status: 502, .. }), "{error}");
    let error = refuse(502, r#"{"message":"Server Error"}"#).error(&token()).await;
    assert_eq!(error.to_string(), "api.github.com failed with HTTP 502: Server Error");
    let error = refuse(422, r#"{"message":"No commit found for SHA: v1"}"#).error(&token()).await;
    assert!(
        error.to_string().ends_with(
            "HTTP 422, which is not a valid answer to a request for an archive: No commit found for SHA: v1"
        ),
        "{error}"
    );
    let error = refuse(300, "").error(&token()).await;
    assert!(matches!(error, FetchError::Unexpected { status: 300, .. }), "{error}");

    let no_installation = github([(MINT.into(), vec![answer(404, r#"{"message":"Not Found"}"#)])]);
    let error = no_installation.error(&Credential::App(app())).await;
    assert!(matches!(error, FetchError::CredentialRefused { status: 404, .. }), "{error}");
    assert_eq!(no_installation.seen().len(), 1);
}

#[tokio::test]
async fn a_limit_holds_back_its_account_and_no_other() {
    let reset = Timestamp::now().as_second() + 900;
    let spent = |answer: Answer| {
        answer.header("x-ratelimit-remaining", "0").header("x-ratelimit-reset", reset.to_string())
    };
    let (url, _) = api("1.0.0", "");
    let github = github([
        (url.clone(), vec![spent(answer(403, "{}")), redirect(302, format!("{LOAD}v1?token=link"))]),
        archive(),
    ]);
    let limited = |error: FetchError| match error {
        FetchError::RateLimited { until, secondary, .. } => (until.as_second(), secondary),
        other => panic!("{other}"),
    };
    assert_eq!(limited(github.error(&token()).await), (reset, false));
    assert_eq!(limited(github.error(&token()).await), (reset, false));
    assert_eq!(github.seen().len(), 1);
    github.get(&Credential::Token("another".into())).await.0.unwrap();
    assert_eq!(github.rate_limits.remaining(Now::read()), [("token", 0)]);
}

#[tokio::test]
async fn the_last_request_of_a_quota_still_brings_its_archive() {
    let reset = Timestamp::now().as_second() + 900;
    let (url, found) = api("1.0.0", "v1?token=link");
    let last =
        found[0].clone().header("x-ratelimit-remaining", "0").header("x-ratelimit-reset", reset.to_string());
    let github = github([(url, vec![last]), archive()]);
    github.get(&token()).await.0.unwrap();
    assert!(matches!(github.error(&token()).await, FetchError::RateLimited { .. }));
    assert_eq!(github.seen().len(), 2);
}

#[tokio::test]
async fn the_host_that_serves_archives_is_obeyed_too() {
    let busy = answer(429, "").header("retry-after", "30");
    let github = github([site("1.0.0", "v1"), (format!("{LOAD}v1"), vec![busy])]);
    assert!(matches!(github.error(&Credential::Anonymous).await, FetchError::RateLimited { .. }));
    assert!(matches!(github.error(&Credential::Anonymous).await, FetchError::RateLimited { .. }));
    assert_eq!(github.seen().len(), 2);
}

#[tokio::test]
async fn a_limit_that_another_fetch_meets_in_between_holds_back_the_redirected_request() {
    let moved = format!("{SITE}moved.zip");
    let busy = answer(429, "").header("retry-after", "30");
    // The second fetch has one more redirect before it.
    let github = github([
        (format!("{SITE}1.0.0.zip"), vec![redirect(302, format!("{LOAD}v1")), redirect(301, &*moved)]),
        (format!("{LOAD}v1"), vec![busy]),
        (moved.clone(), vec![redirect(302, format!("{LOAD}v2"))]),
    ]);
    let anonymous = Credential::Anonymous;
    let (one, two) = futures::future::join(github.error(&anonymous), github.error(&anonymous)).await;
    for error in [one, two] {
        assert!(matches!(error, FetchError::RateLimited { .. }), "{error}");
    }
    let seen = github.seen();
    assert!(seen.contains(&moved) && !seen.contains(&format!("{LOAD}v2")), "{seen:?}");
}

#[tokio::test]
async fn redirects_are_judged() {
    let to = |location: &str| github([(format!("{SITE}1.0.0.zip"), vec![redirect(302, location)])]);
    for bad in ["http://codeload.github.com/x", "https://a:b@github.com/x", "ftp://x/", "https://"] {
        let error = to(bad).error(&Credential::Anonymous).await;
        assert!(matches!(error, FetchError::BadRedirect { .. }), "{bad}: {error}");
    }
    let nowhere = github([(format!("{SITE}1.0.0.zip"), vec![answer(302, "")])]);
    assert!(matches!(nowhere.error(&Credential::Anonymous).await, FetchError::BadRedirect { .. }));

    let circle = to(&format!("{SITE}1.0.0.zip"));
    assert!(matches!(circle.error(&Credential::Anonymous).await, FetchError::TooManyRedirects { .. }));
    assert_eq!(circle.seen().len(), 6);
}

#[tokio::test]
async fn the_limit_is_inclusive_and_an_early_end_is_noticed() {
    let serve = |chunks: Vec<&'static [u8]>, cut| {
        let body = Answer { chunks, cut, ..answer(200, "") };
        github([site("1.0.0", "v1"), (format!("{LOAD}v1"), vec![body])])
    };
    let (fetched, bytes) = serve(vec![b"1234", b"5678"], false).get(&Credential::Anonymous).await;
    assert_eq!((fetched.unwrap().bytes, bytes.as_slice()), (8, &b"12345678"[..]));
    let error = serve(vec![b"1234", b"5678", b"9"], false).error(&Credential::Anonymous).await;
    assert!(matches!(error, FetchError::TooLarge { limit: 8 }), "{error}");
    let error = serve(vec![b"1234"], true).error(&Credential::Anonymous).await;
    assert!(matches!(error, FetchError::Truncated { received: 4, .. }), "{error}");
}
