use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use jiff::Timestamp;
use secrecy::SecretString;
use serde_json::{Value, json};

use super::PEER;
use super::doubles::{AUDIENCE, Server, bearer, jwt, with_issuer};
use crate::registry::auth::access::{Access, limit_key};
use crate::registry::auth::audience;
use crate::registry::auth::denied::{self, Denied};
use crate::registry::auth::identity::{Identity, Kind};
use crate::registry::auth::module_ref::ModuleRef;
use crate::registry::auth::review::Right;
use crate::registry::auth::settings::{AccessError, AccessSettings};
use crate::registry::http::Peer;

const NO_TOKEN: &str = "token required: set TF_TOKEN_registry_acme_io";
const NO_TOKEN_BUT_LOGIN: &str = "token required: set TF_TOKEN_registry_acme_io, or run terraform login";

fn module<'a>(name: &'a str, holder: Option<&'a str>) -> ModuleRef<'a> {
    ModuleRef { namespace: "platform", name, system: "aws", holder }
}

fn with_anonymous() -> AccessSettings {
    AccessSettings { anonymous: true, ..AccessSettings::default() }
}

async fn identity(access: &Access, token: &str) -> Result<Arc<Identity>, Denied> {
    access.identify(&bearer(token), PEER).await
}

#[tokio::test]
async fn a_token_is_reviewed_once_by_many_clients() {
    let server = Server::default();
    server.permit("ann", "platform", "eks");
    let access = Arc::new(server.access(AccessSettings::default()));
    let client = |_| {
        let access = Arc::clone(&access);
        tokio::spawn(async move {
            let identity = identity(&access, "user-ann").await.unwrap();
            access.may_download(&identity, PEER, module("eks", Some("eks"))).await
        })
    };
    let clients: Vec<_> = (0..240).map(client).collect();
    for client in clients {
        assert_eq!(client.await.unwrap(), Ok(()));
    }
    assert_eq!(server.counts(), (1, 1));
}

#[tokio::test]
async fn a_bad_token_is_never_anonymous() {
    let server = Server::default();
    let access = server.access(with_anonymous());
    let anonymous = access.identify(&HeaderMap::new(), PEER).await.unwrap();
    assert_eq!(
        (anonymous.user.as_str(), &*anonymous.groups),
        ("system:anonymous", &["system:unauthenticated".into()][..])
    );
    assert_eq!(identity(&access, "wrong").await, Err(Denied::Unauthenticated(denied::NOT_ACCEPTED)));
    let mut basic = HeaderMap::new();
    basic.insert(http::header::AUTHORIZATION, "Basic YTpi".parse().unwrap());
    assert_eq!(access.identify(&basic, PEER).await, Err(Denied::Unauthenticated(denied::NOT_BEARER)));
    let strict = server.access(AccessSettings::default());
    let without = strict.identify(&HeaderMap::new(), PEER).await;
    assert_eq!(without, Err(Denied::Unauthenticated(NO_TOKEN)));
    let login = server.access(AccessSettings { login: true, ..AccessSettings::default() });
    let without = login.identify(&HeaderMap::new(), PEER).await;
    assert_eq!(without, Err(Denied::Unauthenticated(NO_TOKEN_BUT_LOGIN)));
}

#[tokio::test]
async fn what_the_api_server_would_refuse_is_not_sent_to_it() {
    let server = Server::default();
    let access = server.access(AccessSettings::default());
    let now = Timestamp::now().as_second();
    for (claims, phrase) in [
        (json!({ "aud": [AUDIENCE], "exp": now - 1 }), denied::EXPIRED),
        (json!({ "aud": AUDIENCE, "exp": 1_700_000_000.5 }), denied::EXPIRED),
        (json!({ "aud": ["https://kubernetes.default.svc"], "exp": now + 60 }), denied::OTHER_AUDIENCE),
        (json!({ "exp": now + 60 }), denied::OTHER_AUDIENCE),
        (json!({ "aud": [], "exp": now + 60 }), denied::OTHER_AUDIENCE),
        (json!({ "aud": AUDIENCE, "exp": "tomorrow" }), denied::MALFORMED),
    ] {
        let token = jwt(&json!({ "alg": "RS256" }), &claims, b"signature");
        assert_eq!(identity(&access, &token).await, Err(Denied::Unauthenticated(phrase)), "{claims}");
    }
    assert_eq!(server.counts(), (0, 0));
    let good = jwt(&json!({ "alg": "RS256" }), &json!({ "aud": ["x", AUDIENCE], "exp": now + 60 }), b"s");
    assert_eq!(identity(&access, &good).await, Err(Denied::Unauthenticated(denied::NOT_ACCEPTED)));
    assert_eq!(server.counts(), (1, 0));
}

/// Whatever else is wrong with it.
#[tokio::test]
async fn a_token_of_a_configured_issuer_is_never_sent_to_the_api_server() {
    let issuer = "https://login.acme.io";
    let (_folder, settings) = with_issuer(issuer, AUDIENCE);
    let server = Server::default();
    let access = server.access(settings);
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let claims = |issuer: &str, aud: &str| part(&json!({ "iss": issuer, "aud": aud }).to_string());
    for header in [
        part("{}"),
        part(r#"{"kid":"k"}"#),
        part(r#"{"alg":"RS256","alg":"RS256"}"#),
        part(r#"{"alg":"RS256","kid":7}"#),
        part("header"),
        "a".to_owned(),
    ] {
        let token = format!("{header}.{}.c2ln", claims(issuer, AUDIENCE));
        let refused = Err(Denied::Unauthenticated(denied::MALFORMED));
        assert_eq!(identity(&access, &token).await, refused, "{header}");
        let foreign = format!("{header}.{}.c2ln", claims("https://other.example", "other"));
        let refused = Err(Denied::Unauthenticated(denied::OTHER_AUDIENCE));
        assert_eq!(identity(&access, &foreign).await, refused, "{header}");
    }
    let unsigned = format!("{}.{}.a", part(r#"{"alg":"none"}"#), claims(issuer, AUDIENCE));
    assert_eq!(identity(&access, &unsigned).await, Err(Denied::Unauthenticated(denied::BAD_ALGORITHM)));
    assert_eq!(server.counts(), (0, 0));
}

#[tokio::test]
async fn public_means_everybody_and_one_more_review() {
    let server = Server::default();
    server.permit("system:anonymous", "platform", "public");
    let access = server.access(with_anonymous());
    let anonymous = access.identify(&HeaderMap::new(), PEER).await.unwrap();
    let ann = identity(&access, "user-ann").await.unwrap();
    assert_eq!(access.may_download(&ann, PEER, module("public", None)).await, Ok(()));
    assert_eq!(access.may_download(&anonymous, PEER, module("public", None)).await, Ok(()));
    let private = access.may_download(&anonymous, PEER, module("private", None)).await;
    assert_eq!(private, Err(Denied::Unauthenticated(NO_TOKEN)));
    assert_eq!(access.may_download(&ann, PEER, module("private", None)).await, Err(Denied::Forbidden));
    let reviews = server.0.lock().unwrap().accesses.clone();
    assert_eq!(
        reviews,
        [
            "ann platform/public",
            "system:anonymous platform/public",
            "system:anonymous platform/private",
            "ann platform/private"
        ]
    );
    // Without --anonymous nothing is public.
    let strict = server.access(AccessSettings::default());
    assert_eq!(strict.may_download(&ann, PEER, module("public", None)).await, Err(Denied::Forbidden));
}

/// The Module `terraform-aws-eks` holds the address `eks`. Who may not download it causes as many reviews for it as for an
/// address without a holder, in whatever order they are asked.
#[tokio::test]
async fn reviews_do_not_show_which_addresses_are_held() {
    let holder = |name: &str| (name == "eks").then_some("terraform-aws-eks");
    for order in [
        ["eks", "terraform-aws-eks", "eks", "none"],
        ["terraform-aws-eks", "eks", "none", "eks"],
        ["none", "none", "eks", "terraform-aws-eks"],
    ] {
        let mut reviews = Vec::new();
        let of = |held: bool| {
            let server = Server::default();
            async move {
                let access = server.access(AccessSettings::default());
                let ann = identity(&access, "user-ann").await.unwrap();
                let mut counts = Vec::new();
                for name in order {
                    let module = module(name, holder(name).filter(|_| held));
                    assert_eq!(access.may_download(&ann, PEER, module).await, Err(Denied::Forbidden));
                    counts.push(server.counts().1);
                }
                counts
            }
        };
        for held in [true, false] {
            reviews.push(of(held).await);
        }
        assert_eq!(reviews[0], reviews[1], "{order:?}");
    }
}

#[tokio::test]
async fn without_the_api_server_what_is_known_counts_and_the_rest_waits() {
    let server = Server::default();
    server.permit("ann", "platform", "*");
    let access = server.access(AccessSettings::default());
    let ann = identity(&access, "user-ann").await.unwrap();
    assert_eq!(access.may_download(&ann, PEER, module("eks", None)).await, Ok(()));
    server.set_away(true);
    assert_eq!(identity(&access, "user-ann").await.unwrap(), ann);
    assert_eq!(access.may_download(&ann, PEER, module("eks", None)).await, Ok(()));
    assert_eq!(identity(&access, "user-bob").await, Err(Denied::API_SERVER));
    assert_eq!(access.may_download(&ann, PEER, module("vpc", None)).await, Err(Denied::API_SERVER));
    // The failure is remembered: no more reviews, and no more permission once the server is back within the 5 seconds.
    let before = server.counts();
    assert_eq!(identity(&access, "user-bob").await, Err(Denied::API_SERVER));
    assert_eq!(server.counts(), before);
}

#[tokio::test]
async fn a_peer_with_failed_tokens_is_limited_and_others_go_on() {
    let server = Server::default();
    let access = server.access(AccessSettings::default());
    identity(&access, "user-ann").await.unwrap();
    for number in 0..30 {
        let failed = identity(&access, &format!("wrong-{number}")).await;
        assert_eq!(failed, Err(Denied::Unauthenticated(denied::NOT_ACCEPTED)), "{number}");
    }
    let limited = |result: &Result<Arc<Identity>, Denied>| matches!(result, Err(Denied::TooMany { .. }));
    let reviews = server.counts().0;
    for token in ["wrong-30", "user-bob", "odt_short", "no,token68"] {
        let result = identity(&access, token).await;
        assert!(limited(&result), "{token}: {result:?}");
    }
    assert_eq!(server.counts().0, reviews);
    // A cached token, no token, and another peer.
    assert!(identity(&access, "user-ann").await.is_ok());
    assert_eq!(access.identify(&HeaderMap::new(), PEER).await, Err(Denied::Unauthenticated(NO_TOKEN)));
    let other = Peer::of([192, 0, 2, 2].into());
    assert!(access.identify(&bearer("user-bob"), other).await.is_ok());
}

#[tokio::test]
async fn a_failed_token_counts_although_its_client_leaves() {
    let server = Server::default();
    let access = server.access(AccessSettings::default());
    for number in 0..30 {
        let token = bearer(&format!("wrong-{number}"));
        let mut request = std::pin::pin!(access.identify(&token, PEER));
        assert!(futures::poll!(request.as_mut()).is_pending(), "{number}");
    }
    // The reviews end without their clients.
    while server.counts().0 < 30 {
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    let next = identity(&access, "wrong-30").await;
    assert!(matches!(next, Err(Denied::TooMany { .. })), "{next:?}");
}

#[tokio::test]
async fn refusals_count_although_clients_leave_or_send_all_at_once() {
    let server = Server::default();
    let access = server.access(AccessSettings::default());
    let ann = identity(&access, "user-ann").await.unwrap();
    let start = Instant::now();
    // One more refusal each second.
    let most = |count: usize| count + 1 + usize::try_from(start.elapsed().as_secs()).unwrap();
    let mut reviewed = Vec::new();
    for number in 0..300 {
        let name = format!("name-{number}");
        let mut request = std::pin::pin!(access.may_download(&ann, PEER, module(&name, None)));
        if futures::poll!(request.as_mut()).is_pending() {
            reviewed.push(name.clone());
        }
    }
    // What is open is no refusal yet, and is limited too.
    assert!((144..=144 + 3 * most(0)).contains(&reviewed.len()), "{}", reviewed.len());
    // The reviews end without their clients.
    for name in &reviewed {
        assert_eq!(access.may_download(&ann, PEER, module(name, None)).await, Err(Denied::Forbidden));
    }
    let at_once = reviewed.len();
    for number in 300..400 {
        let name = format!("name-{number}");
        if access.may_download(&ann, PEER, module(&name, None)).await == Err(Denied::Forbidden) {
            reviewed.push(name);
        }
    }
    assert!(reviewed.len() <= at_once + most(0), "{}", reviewed.len());
    // All of them count: 144 at once leave nothing for two minutes, of which the last has 60.
    let later = Instant::now() + Duration::from_secs(75);
    assert!(access.refusals.check(&limit_key(&ann, PEER), later).is_err());
}

/// Clients can fill the queue. If they could prolong a permission by that, it would count although it was withdrawn.
#[tokio::test]
async fn reviews_that_cannot_be_sent_mean_an_outage_only_if_reviews_fail() {
    for (is_away, expected) in [(false, Denied::BUSY), (true, Denied::API_SERVER)] {
        let server = Server::default();
        let access = server.access(AccessSettings::default());
        let mut clients = Vec::new();
        for number in 0..6 {
            clients.push(identity(&access, &format!("user-{number}")).await.unwrap());
        }
        server.set_away(is_away);
        let _ = access.may_download(&clients[5], PEER, module("first", None)).await;
        server.set_delay(Duration::from_hours(1));
        // More than run and wait.
        for client in &clients[..5] {
            for number in 0..60 {
                let name = format!("name-{number}");
                let mut request = std::pin::pin!(access.may_download(client, PEER, module(&name, None)));
                assert!(futures::poll!(request.as_mut()).is_pending(), "{number}");
            }
        }
        let last = access.may_download(&clients[5], PEER, module("last", None)).await;
        assert_eq!(last, Err(expected));
    }
}

#[tokio::test]
async fn random_names_cost_a_bounded_number_of_reviews() {
    let server = Server::default();
    server.permit("ann", "platform", "eks");
    server.permit("bob", "platform", "eks");
    let access = server.access(with_anonymous());
    let ann = identity(&access, "user-ann").await.unwrap();
    assert_eq!(access.may_download(&ann, PEER, module("eks", None)).await, Ok(()));
    let mut refused = 0;
    for number in 0..200 {
        let name = format!("name-{number}");
        match access.may_download(&ann, PEER, module(&name, None)).await {
            Err(Denied::Forbidden) => refused += 1,
            Err(Denied::TooMany { retry_after, .. }) => assert!((1..=2).contains(&retry_after)),
            other => panic!("{other:?}"),
        }
    }
    // One more each second.
    assert!((60..=63).contains(&refused), "{refused}");
    assert!(server.counts().1 <= 2 * 63 + 1, "{:?}", server.counts());
    // Cached reviews still count, and others are made.
    assert_eq!(access.may_download(&ann, PEER, module("eks", None)).await, Ok(()));
    let bob = identity(&access, "user-bob").await.unwrap();
    assert_eq!(access.may_download(&bob, PEER, module("eks", None)).await, Ok(()));
}

#[tokio::test]
async fn anonymous_refusals_are_counted_by_peer() {
    let server = Server::default();
    server.permit("system:anonymous", "platform", "public");
    let access = server.access(with_anonymous());
    let anonymous = access.identify(&HeaderMap::new(), PEER).await.unwrap();
    for number in 0..70 {
        let _ = access.may_download(&anonymous, PEER, module(&format!("n-{number}"), None)).await;
    }
    let limited = access.may_download(&anonymous, PEER, module("public", None)).await;
    assert!(matches!(limited, Err(Denied::TooMany { .. })), "{limited:?}");
    let other = Peer::of([192, 0, 2, 2].into());
    assert_eq!(access.may_download(&anonymous, other, module("public", None)).await, Ok(()));
    // It is known now.
    assert_eq!(access.may_download(&anonymous, PEER, module("public", None)).await, Ok(()));
}

#[test]
fn the_audience_of_the_api_is_refused_at_start() {
    let own = |audiences: Value| {
        SecretString::from(jwt(&json!({ "alg": "RS256" }), &json!({ "aud": audiences }), b""))
    };
    let checked = |audience: &str, own: &SecretString| audience::checked(Some(audience), Some(own));
    let api = own(json!(["https://kubernetes.default.svc", "k3s"]));
    assert_eq!(checked(AUDIENCE, &api).unwrap(), AUDIENCE);
    assert!(matches!(checked("k3s", &api), Err(AccessError::ApiAudience(_))));
    assert!(matches!(checked(AUDIENCE, &own(json!(AUDIENCE))), Err(AccessError::ApiAudience(_))));
    assert!(matches!(audience::checked(None, None), Err(AccessError::NoAudience)));
    assert!(matches!(audience::checked(Some("a b"), None), Err(AccessError::InvalidAudience(_))));
    let message = checked("k3s", &api).unwrap_err().to_string();
    assert!(message.contains("--audience k3s") && message.contains("write"), "{message}");
}

#[test]
fn identities_with_other_rights_have_other_keys() {
    let identity = |user: &str, uid: Option<&str>, groups: &[&str], extra: &[(&str, &[&str])]| {
        let list = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        let extra = extra.iter().map(|(key, values)| ((*key).to_owned(), list(values))).collect();
        Identity::new(Kind::Reviewed, user.into(), uid.map(Into::into), list(groups), extra, None)
    };
    let all = [
        identity("ab", None, &["c"], &[]),
        identity("a", Some("b"), &["c"], &[]),
        identity("ab", None, &[], &[("c", &[])]),
        identity("ab", None, &["c", ""], &[]),
        identity("ab", None, &["c"], &[("k", &["v"])]),
        identity("ab", None, &["c"], &[("k", &["v", ""])]),
        identity("ab", Some("u"), &["c"], &[]),
    ];
    for (at, one) in all.iter().enumerate() {
        for other in &all[at + 1..] {
            assert_ne!(one.rights_key, other.rights_key, "{one:?} {other:?}");
        }
    }
    // Two tokens of one service account share their limits.
    assert_eq!(all[0].limit_key, all[4].limit_key);
}

#[tokio::test]
async fn a_permission_is_for_one_namespace() {
    let server = Server::default();
    server.permit("ann", "platform", "eks");
    let access = server.access(AccessSettings::default());
    let ann = identity(&access, "user-ann").await.unwrap();
    let there = module("eks", Some("eks"));
    assert_eq!(access.may_download(&ann, PEER, there).await, Ok(()));
    let elsewhere = ModuleRef { namespace: "team-a", ..there };
    assert_eq!(access.may_download(&ann, PEER, elsewhere).await, Err(Denied::Forbidden));
    assert_eq!(access.may_download(&ann, PEER, there).await, Ok(()));
}

/// In either order: neither right is known because of the other.
#[tokio::test]
async fn to_read_a_module_is_not_to_download_it() {
    let server = Server::default();
    server.permit_read("ann", "platform", "eks");
    server.permit("bob", "platform", "eks");
    let access = server.access(AccessSettings::default());
    let there = module("eks", Some("eks"));
    let ann = identity(&access, "user-ann").await.unwrap();
    assert_eq!(access.sees(&ann, PEER, Right::Read, there).await, Ok(true));
    assert_eq!(access.may_download(&ann, PEER, there).await, Err(Denied::Forbidden));
    let bob = identity(&access, "user-bob").await.unwrap();
    assert_eq!(access.may_download(&bob, PEER, there).await, Ok(()));
    assert_eq!(access.sees(&bob, PEER, Right::Read, there).await, Ok(false));
}

#[tokio::test]
async fn what_is_public_needs_no_review_that_works() {
    let server = Server::default();
    server.permit("system:anonymous", "platform", "public");
    let access = server.access(with_anonymous());
    let anonymous = access.identify(&HeaderMap::new(), PEER).await.unwrap();
    assert_eq!(access.may_download(&anonymous, PEER, module("public", None)).await, Ok(()));
    let ann = identity(&access, "user-ann").await.unwrap();
    server.set_away(true);
    assert_eq!(access.may_download(&ann, PEER, module("public", None)).await, Ok(()));
    assert_eq!(access.may_download(&ann, PEER, module("private", None)).await, Err(Denied::API_SERVER));
}

#[tokio::test]
async fn one_identity_causes_at_most_so_many_reviews() {
    let server = Server::default();
    server.permit("ann", "platform", "*");
    let access = server.access(AccessSettings::default());
    let ann = identity(&access, "user-ann").await.unwrap();
    let mut limited = 0;
    for number in 0..2000 {
        match access.may_download(&ann, PEER, module(&format!("module-{number}"), None)).await {
            Ok(()) => {}
            Err(Denied::TooMany { phrase, .. }) => {
                assert_eq!(phrase, denied::TOO_MANY_REVIEWS);
                limited += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    // Ten more each second.
    assert!(limited > 0 && server.counts().1 >= 600, "{limited} limited, {:?}", server.counts());
}

#[tokio::test]
async fn a_token_that_is_refused_without_a_review_counts_once_too() {
    let server = Server::default();
    let access = server.access(AccessSettings::default());
    let expired = jwt(&json!({ "alg": "RS256" }), &json!({ "aud": AUDIENCE, "exp": 1_700_000_000 }), b"s");
    let unknown = format!("odt_{}", "x".repeat(43));
    for token in [expired.as_str(), &unknown, "no,token68"] {
        let first = identity(&access, token).await;
        assert!(matches!(first, Err(Denied::Unauthenticated(_))), "{token}: {first:?}");
        for _ in 0..60 {
            assert_eq!(identity(&access, token).await, first, "{token}");
        }
    }
    assert!(identity(&access, "user-ann").await.is_ok());
    assert_eq!(server.counts().0, 1);
}

#[tokio::test]
async fn many_requests_with_one_wrong_token_are_one_failure() {
    let server = Server::default();
    let access = Arc::new(server.access(AccessSettings::default()));
    let clients = (0..60).map(|_| {
        let access = Arc::clone(&access);
        tokio::spawn(async move { identity(&access, "wrong").await })
    });
    for client in clients.collect::<Vec<_>>() {
        assert_eq!(client.await.unwrap(), Err(Denied::Unauthenticated(denied::NOT_ACCEPTED)));
    }
    assert_eq!(server.counts().0, 1);
    assert!(identity(&access, "user-ann").await.is_ok());
}
