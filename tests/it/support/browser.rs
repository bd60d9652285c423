//! A browser: follows redirects, keeps cookies, and signs in at the OpenID provider of the testbed.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use opendepot_testbed::openid::{CLIENT, OpenId, PASSWORD};
use reqwest::header::{CONTENT_TYPE, COOKIE, HeaderMap, LOCATION, ORIGIN, SET_COOKIE};
use reqwest::{Certificate, Client, RequestBuilder, Url};

/// A browser with its cookies. It leaves redirects to `http://localhost` to its user.
pub(crate) struct Browser {
    client: Client,
    /// By host with port, and name.
    cookies: Mutex<BTreeMap<(String, String), String>>,
}

/// Where a browser is.
#[derive(Debug)]
pub(crate) struct Page {
    pub url: Url,
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Browser {
    /// One that trusts these authorities.
    pub(crate) fn new(ca_files: &[&Path]) -> Self {
        let certificates =
            ca_files.iter().map(|file| Certificate::from_pem(&std::fs::read(file).unwrap()).unwrap());
        let client = Client::builder()
            .tls_certs_only(certificates)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .unwrap();
        Self { client, cookies: Mutex::default() }
    }

    /// Opens a URL, and follows redirects.
    pub(crate) async fn open(&self, url: &str) -> Page {
        self.follow(self.client.get(url), "").await
    }

    /// Opens a URL of a client that waits for it. Terraform closes its listener once it has the code, sometimes before its answer
    /// is sent.
    pub(crate) async fn hand_over(&self, url: &str) {
        let _ = self.client.get(url).send().await;
    }

    /// Sends a form as a page of `origin` does, and follows redirects.
    pub(crate) async fn submit(&self, url: &str, origin: &str, fields: &[(&str, &str)]) -> Page {
        self.follow(self.form(url, origin, fields), "").await
    }

    /// Fills in the provider's form, and follows redirects.
    pub(crate) async fn sign_in(&self, form: &Page, user: &str) -> Page {
        self.follow(self.filled_in(form, user), "").await
    }

    /// Fills in the provider's form, and gives the address in the registry that the provider leads to, without opening it.
    pub(crate) async fn authorise(&self, form: &Page, user: &str) -> String {
        self.follow(self.filled_in(form, user), "/login/callback").await.location()
    }

    /// A cookie, if there is one.
    pub(crate) fn cookie(&self, url: &str, name: &str) -> Option<String> {
        self.cookies.lock().unwrap().get(&(host(&url.parse().unwrap()), name.to_owned())).cloned()
    }

    fn filled_in(&self, form: &Page, user: &str) -> RequestBuilder {
        let id = form.text.split("name=\"id\" value=\"").nth(1).and_then(|rest| rest.split('"').next());
        let id = id.unwrap_or_else(|| panic!("no form to sign in with: {form:?}"));
        let url = form.url.join("/login/username").unwrap();
        let origin = form.url.origin().ascii_serialization();
        self.form(url.as_str(), &origin, &[("id", id), ("username", user), ("password", PASSWORD)])
    }

    fn form(&self, url: &str, origin: &str, fields: &[(&str, &str)]) -> RequestBuilder {
        let request = self.client.post(url).header(ORIGIN, origin).body(form(fields));
        request.header(CONTENT_TYPE, "application/x-www-form-urlencoded")
    }

    /// Follows redirects, except to a path that is named.
    async fn follow(&self, request: RequestBuilder, until: &str) -> Page {
        let mut request = request.build().unwrap();
        for _ in 0..10 {
            let url = request.url().clone();
            let cookies = self.cookies_of(&url);
            if !cookies.is_empty() {
                request.headers_mut().insert(COOKIE, cookies.parse().unwrap());
            }
            let answer = self.client.execute(request).await.unwrap();
            let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
            self.keep(&url, &headers);
            let next = headers.get(LOCATION).filter(|_| (300..400).contains(&status));
            let next = next.map(|to| url.join(to.to_str().unwrap()).unwrap());
            match next {
                Some(next) if next.host_str() != Some("localhost") && next.path() != until => {
                    request = self.client.get(next).build().unwrap();
                }
                _ => return Page { url, status, headers, text: answer.text().await.unwrap() },
            }
        }
        panic!("redirects without end");
    }

    fn cookies_of(&self, url: &Url) -> String {
        let cookies = self.cookies.lock().unwrap();
        let own = cookies.iter().filter(|((at, _), _)| *at == host(url));
        own.map(|((_, name), value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
    }

    fn keep(&self, url: &Url, headers: &HeaderMap) {
        let mut cookies = self.cookies.lock().unwrap();
        for cookie in headers.get_all(SET_COOKIE) {
            let mut fields = cookie.to_str().unwrap().split(';').map(str::trim);
            let (name, value) = fields.next().unwrap().split_once('=').unwrap();
            let key = (host(url), name.to_owned());
            if fields.any(|field| field.eq_ignore_ascii_case("max-age=0")) {
                cookies.remove(&key);
            } else {
                cookies.insert(key, value.to_owned());
            }
        }
    }
}

impl Page {
    /// Where a redirect leads that was not followed.
    pub(crate) fn location(&self) -> String {
        self.headers[LOCATION].to_str().unwrap().to_owned()
    }
}

/// An access token of the provider for a user, with the scopes `openid` and `groups`: what `terraform login` gets.
pub(crate) async fn access_token(provider: &OpenId, user: &str) -> String {
    let browser = Browser::new(&[&provider.ca_file()]);
    let issuer = provider.issuer();
    let (redirect, verifier) = ("http://localhost/login", "v".repeat(43));
    let challenge = URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()));
    let query = form(&[
        ("client_id", CLIENT),
        ("response_type", "code"),
        ("scope", "openid groups"),
        ("redirect_uri", redirect),
        ("state", "s"),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ]);
    let login = browser.open(&format!("{issuer}/auth?{query}")).await;
    let back: Url = browser.sign_in(&login, user).await.location().parse().unwrap();
    let code = back.query_pairs().find(|(name, _)| name == "code").unwrap().1.into_owned();
    let fields = [
        ("client_id", CLIENT),
        ("grant_type", "authorization_code"),
        ("code", &code),
        ("code_verifier", &verifier),
        ("redirect_uri", redirect),
    ];
    let answer = browser.submit(&format!("{issuer}/oauth/token"), &issuer, &fields).await;
    let answer: serde_json::Value = serde_json::from_str(&answer.text).unwrap();
    answer["access_token"].as_str().unwrap().to_owned()
}

fn form(fields: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

fn host(url: &Url) -> String {
    format!("{}:{}", url.host_str().unwrap(), url.port_or_known_default().unwrap())
}
