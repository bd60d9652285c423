//! The order of requests, against a GitHub that answers from a script and notes what it is asked.

use std::{collections::HashMap, io, sync::Mutex};

use futures::stream;
use secrecy::ExposeSecret;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use super::{super::credential::tests::app, *};

const SITE: &str = "https://github.com/acme/net/archive/refs/tags/";
const API: &str = "https://api.github.com/repos/acme/net";
const LOAD: &str = "https://codeload.github.com/acme/net/zip/";
const MINT: &str = "POST https://api.github.com/";

#[derive(Clone)]
struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    chunks: Vec<&'static [u8]>,
    cut: bool,
}

impl Answer {
    fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

fn answer(status: u16, body: &'static str) -> Answer {
    Answer { status, headers: Vec::new(), chunks: vec![body.as_bytes()], cut: false }
}

fn redirect(status: u16, to: impl Into<String>) -> Answer {
    answer(status, "").header("location", to)
}

fn grant(token: &str) -> Answer {
    let body = format!(r#"{{"token":"{token}","expires_at":"2999-01-01T00:00:00Z"}}"#);
    answer(201, body.leak())
}

/// Answers each address in turn, the last one for ever; what it does not know is 404.
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
        response.body(reqwest::Body::wrap_stream(stream::iter(chunks))).unwrap().into()
    }
}

impl Transport for Script {
    async fn get(&self, url: &Url, token: Option<&SecretString>) -> Result<Response, FetchError> {
        Ok(self.reply(url.as_str(), token.map(ExposeSecret::expose_secret)))
    }

    async fn mint(&self, api: &Url, _: &AppKey) -> Result<Response, FetchError> {
        tokio::task::yield_now().await;
        Ok(self.reply(&format!("POST {api}"), None))
    }
}

fn github<const N: usize>(answers: [(String, Vec<Answer>); N]) -> Fetcher<Script> {
    Fetcher::new(Script { answers: Mutex::new(answers.into()), seen: Mutex::default() })
}

impl Fetcher<Script> {
    async fn get(&self, credential: &Credential) -> (Result<Fetched, FetchError>, Vec<u8>) {
        let repository = Repository::from_parts("acme", "net").unwrap();
        let tags = ["1.0.0".to_owned(), "v1.0.0".to_owned()];
        let order = Order {
            repository: &repository,
            tags: &tags,
            format: Format::Zip,
            limit: 8,
            time: Duration::from_mins(1),
        };
        let mut file = File::from_std(tempfile::tempfile().unwrap());
        let outcome = movable(self.fetch(order, credential, &mut file)).await;
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
}

/// A controller runs fetches as tasks, which move between threads.
fn movable<F: Future + Send>(fetch: F) -> F {
    fetch
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
    assert_eq!(fetched.unwrap(), Fetched { tag: "1.0.0".into(), url: url.clone(), bytes: 7 });
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
    let no_tag = github([site("1.0.0", "none"), site("v1.0.0", "none")]);
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
async fn a_refused_installation_token_is_replaced_once() {
    let (url, found) = api("1.0.0", "v1?token=link");
    let revoked = github([
        (MINT.into(), vec![grant("old"), grant("new")]),
        (url.clone(), [vec![answer(401, r#"{"message":"Bad credentials"}"#)], found].concat()),
        archive(),
    ]);
    let app = Credential::App(app());
    revoked.get(&app).await.0.unwrap();
    assert_eq!(revoked.seen()[..3], [MINT.into(), format!("{url} with old"), MINT.into()]);

    let refused = github([(MINT.into(), vec![grant("any")]), (url, vec![answer(401, "")])]);
    let error = refused.error(&app).await;
    assert!(matches!(error, FetchError::CredentialRefused { status: 401, .. }), "{error}");
    assert_eq!(refused.seen().len(), 4);
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
    assert_eq!(github.remaining(), [("token", 0)]);
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
