use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Keys, Signer, encode, key_set};
use crate::registry::auth::denied::{self, Denied};
use crate::registry::auth::jwt::fetch::jwks_address;
use crate::registry::auth::jwt::key_ring::{KeyRing, REFRESH};
use crate::registry::auth::jwt::keys::KeySet;
use crate::registry::auth::token::{Header, Unverified};

const UNKNOWN: Denied = Denied::Unauthenticated(denied::UNKNOWN_KEY);
/// Without keys, a fetch is possible after 5 seconds, else after a minute.
const WITHOUT_KEYS: Denied = Denied::identity_provider(5);
const UNAVAILABLE: Denied = Denied::identity_provider(60);

fn header(kid: &str) -> Header {
    serde_json::from_value(json!({ "alg": "ES256", "kid": kid })).unwrap()
}

/// RFC 7515, appendix A.3: the signature was made by another implementation.
#[test]
fn the_example_of_the_standard_is_verified() {
    let token = "eyJhbGciOiJFUzI1NiJ9.\
                 eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.\
                 DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    let key = json!({ "kty": "EC", "crv": "P-256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0" });
    let jwt = Unverified::parse(token).unwrap();
    assert!(key_set(std::slice::from_ref(&key)).verifies(&jwt));
    let changed = token.replace("DtEhU3", "DtEhU4");
    assert!(!key_set(&[key]).verifies(&Unverified::parse(&changed).unwrap()));
}

#[test]
fn a_key_verifies_what_it_is_for_and_nothing_else() {
    let (rsa, ec) = (Signer::rsa(), Signer::ec());
    let with = |mut jwk: Value, name: &str, value: Value| {
        jwk[name] = value;
        key_set(&[jwk])
    };
    let token = |signer: &Signer, alg: &str| signer.sign(&json!({ "alg": alg, "kid": "k" }), &json!({}));
    let verifies = |set: &KeySet, token: &str| set.verifies(&Unverified::parse(token).unwrap());
    for (signer, alg) in [(&rsa, "RS256"), (&rsa, "PS256"), (&ec, "ES256")] {
        let token = token(signer, alg);
        let jwk = signer.jwk("k");
        assert!(verifies(&key_set(std::slice::from_ref(&jwk)), &token), "{alg}");
        assert!(verifies(&with(jwk.clone(), "use", json!("sig")), &token), "{alg}");
        assert!(verifies(&with(jwk.clone(), "alg", json!(alg)), &token), "{alg}");
        assert!(verifies(&with(jwk.clone(), "key_ops", json!(["verify"])), &token), "{alg}");
        for (name, value) in [
            ("use", json!("enc")),
            ("alg", json!("RS512")),
            ("key_ops", json!(["sign"])),
            ("kid", json!("other")),
            ("crv", json!("P-384")),
            ("kty", json!("oct")),
        ] {
            if name == "crv" && alg != "ES256" {
                continue;
            }
            assert!(!verifies(&with(jwk.clone(), name, value), &token), "{alg} with another {name}");
        }
    }
    // The same key with another algorithm than that of the signature, and the other kind of key.
    assert!(!verifies(
        &key_set(&[rsa.jwk("k")]),
        &token(&rsa, "RS256").replace(&encode(b"{\"alg\":\"RS256\""), &encode(b"{\"alg\":\"PS256\""))
    ));
    assert!(!verifies(&key_set(&[ec.jwk("k")]), &token(&rsa, "RS256")));
    assert!(!verifies(&key_set(&[rsa.jwk("k")]), &token(&ec, "ES256")));
    // Without a kid every fitting key is tried.
    let without = rsa.sign(&json!({ "alg": "RS256" }), &json!({}));
    assert!(verifies(&key_set(&[ec.jwk("a"), Signer::rsa().jwk("b"), rsa.jwk("c")]), &without));
}

#[test]
fn odd_key_sets_are_no_danger() {
    for text in ["", "[]", "{}", r#"{"keys": 3}"#, "<html>"] {
        assert!(KeySet::parse(text.as_bytes()).is_err(), "{text}");
    }
    let rsa = Signer::rsa();
    let mut zero = rsa.jwk("k");
    zero["n"] = json!(format!("AA{}", "A".repeat(40)));
    let odd = [
        json!(null),
        json!({}),
        json!({ "kty": "RSA" }),
        json!({ "kty": "RSA", "n": "!", "e": "AQAB" }),
        zero,
        json!({ "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA" }),
    ];
    let token = rsa.sign(&json!({ "alg": "RS256" }), &json!({}));
    let jwt = Unverified::parse(&token).unwrap();
    assert!(!key_set(&odd).verifies(&jwt));
    let all: Vec<Value> = odd.into_iter().chain([rsa.jwk("k")]).collect();
    assert!(key_set(&all).verifies(&jwt));
}

#[test]
fn metadata_has_to_be_the_issuers_own_with_an_https_address() {
    let address = |metadata: Value| jwks_address(metadata.to_string().as_bytes(), "https://a.example");
    let good = json!({ "issuer": "https://a.example", "jwks_uri": "https://keys.example/jwks" });
    assert_eq!(address(good).unwrap().as_str(), "https://keys.example/jwks");
    for (metadata, expected) in [
        (json!({ "issuer": "https://a.example/", "jwks_uri": "https://a.example/k" }), "to the issuer"),
        (json!({ "issuer": "https://b.example", "jwks_uri": "https://a.example/k" }), "to the issuer"),
        (json!({ "issuer": "https://a.example", "jwks_uri": "http://a.example/k" }), "not an https URL"),
        (json!({ "issuer": "https://a.example", "jwks_uri": "file:///etc/passwd" }), "not an https URL"),
        (json!({ "issuer": "https://a.example" }), "not OpenID metadata"),
    ] {
        let problem = address(metadata).unwrap_err();
        assert!(problem.contains(expected), "{problem}");
    }
}

#[tokio::test]
async fn a_storm_of_unknown_keys_causes_one_fetch_a_minute() {
    let keys = Keys::of(&[Signer::ec().jwk("old")]);
    let ring = Arc::new(KeyRing::new("issuer".into(), Box::new(keys.clone())));
    let start = Instant::now();
    assert!(ring.keys_for(&header("old"), start).await.is_ok());
    let after = |seconds| start + Duration::from_secs(seconds);
    for number in 0..100 {
        let unknown = ring.keys_for(&header(&format!("k-{number}")), after(1)).await;
        assert_eq!(unknown.map(drop), Err(UNKNOWN));
    }
    assert_eq!(keys.fetches(), 1);
    keys.publish(&[Signer::ec().jwk("new")]);
    assert_eq!(ring.keys_for(&header("new"), after(59)).await.map(drop), Err(UNKNOWN));
    assert!(ring.keys_for(&header("new"), after(61)).await.is_ok());
    assert_eq!(ring.keys_for(&header("old"), after(62)).await.map(drop), Err(UNKNOWN), "it was removed");
    assert_eq!(keys.fetches(), 2);
}

#[tokio::test]
async fn a_removed_key_counts_until_the_next_regular_fetch() {
    assert_eq!(REFRESH, Duration::from_mins(10));
    let keys = Keys::of(&[Signer::ec().jwk("old")]);
    let ring = Arc::new(KeyRing::new("issuer".into(), Box::new(keys.clone())));
    let regular = tokio::spawn({
        let ring = Arc::clone(&ring);
        async move { ring.keep_current(Duration::from_millis(1)).await }
    });
    // A known key causes no fetch.
    let known = async || ring.keys_for(&header("old"), Instant::now()).await.is_ok();
    assert!(known().await);
    keys.publish(&[Signer::ec().jwk("new")]);
    let removed = async {
        while known().await {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), removed).await.expect("the keys are fetched again");
    regular.abort();
}

#[tokio::test]
async fn one_fetch_is_in_flight_and_counts_for_all_who_wait() {
    let keys = Keys::of(&[Signer::ec().jwk("k")]);
    let ring = Arc::new(KeyRing::new("issuer".into(), Box::new(keys.clone())));
    let ask = |_| {
        let ring = Arc::clone(&ring);
        tokio::spawn(async move { ring.keys_for(&header("k"), Instant::now()).await.map(drop) })
    };
    let all: Vec<_> = (0..50).map(ask).collect();
    for one in all {
        assert_eq!(one.await.unwrap(), Ok(()));
    }
    assert_eq!(keys.fetches(), 1);
}

#[tokio::test]
async fn the_last_good_keys_count_for_an_hour() {
    let keys = Keys::of(&[Signer::ec().jwk("k")]);
    let ring = KeyRing::new("issuer".into(), Box::new(keys.clone()));
    let start = Instant::now();
    assert!(ring.keys_for(&header("k"), start).await.is_ok());
    keys.stop();
    let after = |seconds| start + Duration::from_secs(seconds);
    assert!(ring.keys_for(&header("k"), after(3590)).await.is_ok());
    assert_eq!(ring.keys_for(&header("k"), after(3610)).await.map(drop), Err(WITHOUT_KEYS));
    let fetches = keys.fetches();
    assert_eq!(ring.keys_for(&header("k"), after(3611)).await.map(drop), Err(WITHOUT_KEYS));
    assert_eq!(keys.fetches(), fetches, "a failure is remembered");
    keys.publish(&[Signer::ec().jwk("k")]);
    assert!(ring.keys_for(&header("k"), after(3616)).await.is_ok());
}

#[tokio::test]
async fn an_unknown_key_is_refused_only_where_the_keys_were_fetched() {
    let keys = Keys::of(&[Signer::ec().jwk("k")]);
    let ring = KeyRing::new("issuer".into(), Box::new(keys.clone()));
    let start = Instant::now();
    let after = |seconds| start + Duration::from_secs(seconds);
    let known = async |kid: &str, seconds| ring.keys_for(&header(kid), after(seconds)).await.map(drop);
    assert_eq!(known("k", 0).await, Ok(()));
    keys.stop();
    assert_eq!(known("new", 61).await, Err(UNAVAILABLE), "it may be there");
    assert_eq!(known("k", 61).await, Ok(()));
    // A set without keys does not take the place of the good one.
    keys.publish(&[]);
    assert_eq!(known("new", 122).await, Err(UNAVAILABLE));
    assert_eq!(known("k", 122).await, Ok(()));
    keys.publish(&[Signer::ec().jwk("k")]);
    assert_eq!(known("new", 183).await, Err(UNKNOWN));
}

#[test]
fn a_set_has_at_most_64_keys() {
    let (signer, other) = (Signer::ec(), Signer::ec());
    let token = signer.sign(&json!({ "alg": "ES256" }), &json!({}));
    let jwt = Unverified::parse(&token).unwrap();
    let set = |before: usize| {
        let mut keys = vec![other.jwk("other"); before];
        keys.push(signer.jwk("k"));
        key_set(&keys)
    };
    assert!(set(63).verifies(&jwt));
    assert!(!set(64).verifies(&jwt));
}

#[tokio::test]
async fn requests_wait_for_the_regular_fetch_and_cause_none() {
    let good = Keys::of(&[Signer::ec().jwk("k")]);
    for (keys, expected) in [(good, Ok(())), (Keys::default(), Err(WITHOUT_KEYS))] {
        let ring = Arc::new(KeyRing::new("issuer".into(), Box::new(keys.clone())));
        let regular = tokio::spawn({
            let ring = Arc::clone(&ring);
            async move { ring.keep_current(REFRESH).await }
        });
        // The regular fetch has begun, and waits once.
        tokio::task::yield_now().await;
        assert_eq!(keys.fetches(), 1);
        assert_eq!(ring.keys_for(&header("k"), Instant::now()).await.map(drop), expected);
        assert_eq!(keys.fetches(), 1);
        regular.abort();
    }
}
