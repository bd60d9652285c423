use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{ISSUER, Keys, Signer, encode, issuer};
use crate::registry::auth::denied::{self, Denied};
use crate::registry::auth::identity::{Identity, Kind};
use crate::registry::auth::jwt::claims;
use crate::registry::auth::jwt::verify::{Issuer, Issuers};
use crate::registry::auth::token::Unverified;

const MAPPINGS: &str = "{username: {claim: sub, prefix: 'ci:'}, groups: {claim: groups, prefix: 'ci:'}}";

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn claims(changes: &Value) -> Value {
    let mut claims =
        json!({ "iss": ISSUER, "aud": "registry.acme.io", "exp": now().as_second() + 60, "sub": "ann" });
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

async fn verify(issuer: &Issuer, token: &str) -> Result<Identity, Denied> {
    issuer.verify(token, now(), Instant::now()).await
}

fn refused(phrase: &'static str) -> Result<Identity, Denied> {
    Err(Denied::Unauthenticated(phrase))
}

#[tokio::test]
async fn claims_decide() {
    let signer = Signer::ec();
    let issuer = Issuer::new(issuer(MAPPINGS), Box::new(Keys::of(&[signer.jwk("k")])));
    let at = now().as_second();
    for (changes, phrase) in [
        (json!({}), None),
        (json!({ "aud": ["other", "registry.acme.io"] }), None),
        (json!({ "exp": at - 9 }), None),
        (json!({ "nbf": at + 10 }), None),
        (json!({ "nbf": at - 100, "iat": at + 500 }), None),
        (json!({ "exp": 1_800_000_000.5 }), None),
        (json!({ "exp": at - 10 }), Some(denied::EXPIRED)),
        (json!({ "exp": 0 }), Some(denied::EXPIRED)),
        (json!({ "exp": -1 }), Some(denied::EXPIRED)),
        (json!({ "exp": null }), Some(denied::NO_EXPIRY)),
        (json!({ "exp": "2030" }), Some(denied::MALFORMED)),
        (json!({ "exp": 253_402_300_799_i64 }), None),
        (json!({ "exp": 1e300 }), None),
        (json!({ "exp": u64::MAX }), None),
        (json!({ "exp": -1e300 }), Some(denied::EXPIRED)),
        (json!({ "nbf": -1e300 }), None),
        (json!({ "nbf": 1e300 }), Some(denied::NOT_YET_VALID)),
        (json!({ "nbf": at + 11 }), Some(denied::NOT_YET_VALID)),
        (json!({ "nbf": "now" }), Some(denied::MALFORMED)),
        (json!({ "aud": null }), Some(denied::OTHER_AUDIENCE)),
        (json!({ "aud": [] }), Some(denied::OTHER_AUDIENCE)),
        (json!({ "aud": "registry.acme.io.evil" }), Some(denied::OTHER_AUDIENCE)),
        (json!({ "aud": { "registry.acme.io": 1 } }), Some(denied::OTHER_AUDIENCE)),
        (json!({ "aud": [["registry.acme.io"]] }), Some(denied::OTHER_AUDIENCE)),
        (json!({ "sub": null }), Some(denied::CLAIM_MISSING)),
        (json!({ "sub": 7 }), Some(denied::CLAIM_UNUSABLE)),
        (json!({ "sub": "" }), Some(denied::CLAIM_UNUSABLE)),
        (json!({ "sub": "a\nb" }), Some(denied::CLAIM_UNUSABLE)),
        (json!({ "groups": ["a", 1] }), Some(denied::CLAIM_UNUSABLE)),
        (json!({ "groups": ["a\u{7f}"] }), Some(denied::CLAIM_UNUSABLE)),
        (json!({ "groups": { "a": 1 } }), Some(denied::CLAIM_UNUSABLE)),
    ] {
        let token = signer.sign(&json!({ "alg": "ES256", "kid": "k" }), &claims(&changes));
        let result = verify(&issuer, &token).await;
        match phrase {
            None => assert_eq!(result.unwrap().user, "ci:ann", "{changes}"),
            Some(phrase) => assert_eq!(result, refused(phrase), "{changes}"),
        }
    }
}

#[tokio::test]
async fn headers_and_signatures_decide() {
    let (signer, rsa) = (Signer::ec(), Signer::rsa());
    let issuer = Issuer::new(issuer(MAPPINGS), Box::new(Keys::of(&[signer.jwk("k"), rsa.jwk("r")])));
    let other = Signer::ec();
    let good = |header: Value| signer.sign(&header, &claims(&json!({})));
    assert!(verify(&issuer, &good(json!({ "alg": "ES256", "kid": "k" }))).await.is_ok());
    assert!(verify(&issuer, &good(json!({ "alg": "ES256" }))).await.is_ok());
    // A key in the header is not read, whether or not it signed.
    for name in ["jwk", "jku", "x5u", "x5c"] {
        let mut header = json!({ "alg": "ES256", "kid": "k", "typ": "at+jwt" });
        header[name] = other.jwk("k");
        assert!(verify(&issuer, &good(header.clone())).await.is_ok(), "{name}");
        let forged = other.sign(&header, &claims(&json!({})));
        assert_eq!(verify(&issuer, &forged).await, refused(denied::BAD_SIGNATURE), "{name}");
    }
    for (header, phrase) in [
        (json!({ "alg": "ES256", "kid": "k", "crit": ["exp"] }), denied::CRITICAL),
        (json!({ "alg": "ES256", "kid": "k", "crit": [] }), denied::CRITICAL),
        (json!({ "alg": "ES256", "kid": "k", "crit": null }), denied::CRITICAL),
        (json!({ "alg": "none", "kid": "k" }), denied::BAD_ALGORITHM),
        (json!({ "alg": "None", "kid": "k" }), denied::BAD_ALGORITHM),
        (json!({ "alg": "HS256", "kid": "r" }), denied::BAD_ALGORITHM),
        (json!({ "alg": "EdDSA", "kid": "k" }), denied::BAD_ALGORITHM),
        (json!({ "alg": "es256", "kid": "k" }), denied::BAD_ALGORITHM),
        (json!({ "alg": "ES384", "kid": "k" }), denied::UNKNOWN_KEY),
        (json!({ "alg": "ES256", "kid": "r" }), denied::UNKNOWN_KEY),
        (json!({ "alg": "ES256", "kid": "other" }), denied::UNKNOWN_KEY),
    ] {
        assert_eq!(verify(&issuer, &good(header.clone())).await, refused(phrase), "{header}");
    }
    let forged = other.sign(&json!({ "alg": "ES256", "kid": "k" }), &claims(&json!({})));
    assert_eq!(verify(&issuer, &forged).await, refused(denied::BAD_SIGNATURE));
    let token = good(json!({ "alg": "ES256", "kid": "k" }));
    let (head, signature) = token.rsplit_once('.').unwrap();
    let (header, _) = head.split_once('.').unwrap();
    let admin =
        format!("{header}.{}.{signature}", encode(claims(&json!({ "sub": "root" })).to_string().as_bytes()));
    assert_eq!(verify(&issuer, &admin).await, refused(denied::BAD_SIGNATURE));
    assert_eq!(verify(&issuer, &format!("{head}.")).await, refused(denied::BAD_SIGNATURE));
}

/// HS256 with the public key as the secret: the classic confusion.
#[tokio::test]
async fn a_public_key_is_no_secret() {
    let rsa = Signer::rsa();
    let jwk = rsa.jwk("r");
    let issuer = Issuer::new(issuer(MAPPINGS), Box::new(Keys::of(std::slice::from_ref(&jwk))));
    let message = format!(
        "{}.{}",
        encode(json!({ "alg": "HS256", "kid": "r" }).to_string().as_bytes()),
        encode(claims(&json!({})).to_string().as_bytes())
    );
    let secret = jwk["n"].as_str().unwrap();
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret.as_bytes());
    let token = format!("{message}.{}", encode(aws_lc_rs::hmac::sign(&key, message.as_bytes()).as_ref()));
    assert_eq!(verify(&issuer, &token).await, refused(denied::BAD_ALGORITHM));
}

#[tokio::test]
async fn without_keys_no_token_is_refused_for_good() {
    let (signer, keys) = (Signer::ec(), Keys::default());
    let issuer = Issuer::new(issuer(MAPPINGS), Box::new(keys.clone()));
    let token = signer.sign(&json!({ "alg": "ES256", "kid": "k" }), &claims(&json!({})));
    assert_eq!(verify(&issuer, &token).await, Err(Denied::identity_provider(5)));
    // What needs no key is refused all the same.
    let expired = signer.sign(&json!({ "alg": "ES256", "kid": "k" }), &claims(&json!({ "exp": 5 })));
    assert_eq!(verify(&issuer, &expired).await, refused(denied::EXPIRED));
}

#[test]
fn claims_are_mapped() {
    let map =
        |mappings: &str, all: Value| claims::identity(all.as_object().unwrap(), &issuer(mappings), now());
    let github = "{username: {claim: sub, prefix: 'gh:'}, \
                  groups: {claims: [repository, repository_owner, none], prefix: 'gh:'}, uid: {claim: repository_id}}";
    let all = json!({ "sub": "repo:acme/infra:ref:refs/heads/main", "repository": "acme/infra",
        "repository_owner": "acme", "repository_id": "74" });
    let identity = map(github, all).unwrap();
    assert_eq!(
        (identity.kind, identity.user.as_str()),
        (Kind::Jwt, "gh:repo:acme/infra:ref:refs/heads/main")
    );
    assert_eq!(identity.groups, ["gh:repository:acme/infra", "gh:repository_owner:acme"]);
    assert_eq!((identity.uid.as_deref(), identity.expires), (Some("74"), Some(now())));
    assert!(identity.extra.is_empty());
    // One text and a list, and nothing of Kubernetes' own.
    let one = map(MAPPINGS, json!({ "sub": "ann", "groups": "dev" })).unwrap();
    let many = map(MAPPINGS, json!({ "sub": "ann", "groups": ["system:masters", "b"] })).unwrap();
    assert_eq!(
        (one.groups, many.groups),
        (vec!["ci:dev".into()], vec!["ci:system:masters".into(), "ci:b".into()])
    );
    assert!(map(MAPPINGS, json!({ "sub": "ann" })).unwrap().groups.is_empty());
    // GitHub writes empty texts, such as `head_ref` outside of pull requests.
    let empty = map(
        github,
        json!({ "sub": "a", "repository": "", "repository_owner": "acme", "repository_id": "7" }),
    );
    assert_eq!(empty.unwrap().groups, ["gh:repository_owner:acme"]);
    assert_eq!(map(MAPPINGS, json!({ "sub": "ann", "groups": ["", "b"] })).unwrap().groups, ["ci:b"]);
    // Groups that are elsewhere are not read, and the rights would lack them.
    let elsewhere = |claim: &str| map(MAPPINGS, json!({ "sub": "ann", "_claim_names": { claim: "src1" } }));
    assert_eq!(elsewhere("groups"), Err(denied::CLAIM_UNUSABLE));
    assert!(elsewhere("roles").is_ok());
    let both = json!({ "sub": "ann", "groups": ["b"], "_claim_names": { "groups": "src1" } });
    assert_eq!(map(MAPPINGS, both).unwrap().groups, ["ci:b"]);
    let email = "{username: {claim: email, prefix: 'e:'}}";
    assert_eq!(map(email, json!({ "email": "a@b", "email_verified": true })).unwrap().user, "e:a@b");
    for verified in [json!(false), json!("true"), json!(1), Value::Null] {
        let all = json!({ "email": "a@b", "email_verified": verified });
        assert_eq!(map(email, all), Err(denied::EMAIL_UNVERIFIED));
    }
    assert_eq!(map(email, json!({ "email": "a@b" })), Err(denied::EMAIL_UNVERIFIED));
    let groups = "{username: {claim: sub, prefix: 'e:'}, groups: {claims: [email], prefix: 'e:'}}";
    let verified = json!({ "sub": "ann", "email": "a@b", "email_verified": true });
    assert_eq!(map(groups, verified).unwrap().groups, ["e:email:a@b"]);
    assert!(map(groups, json!({ "sub": "ann", "email": "a@b" })).unwrap().groups.is_empty());
    assert!(map(groups, json!({ "sub": "ann" })).unwrap().groups.is_empty());
}

#[test]
fn a_required_value_is_required() {
    let mut config = issuer(MAPPINGS);
    config.required = vec![("repository_owner_id".into(), "9919".into())];
    let map = |all: Value| claims::identity(all.as_object().unwrap(), &config, now());
    assert!(map(json!({ "sub": "a", "repository_owner_id": "9919" })).is_ok());
    for value in [json!("9918"), json!("99190"), json!(9919), json!(["9919"]), Value::Null] {
        let all = json!({ "sub": "a", "repository_owner_id": value });
        assert_eq!(map(all), Err(denied::CLAIM_MISSING));
    }
    assert_eq!(map(json!({ "sub": "a" })), Err(denied::CLAIM_MISSING));
}

proptest! {
    /// Whatever unknown users put into their claims, a name has its issuer's prefix and no control character.
    #[test]
    fn mapped_names_keep_their_prefix(sub in any::<String>(), groups in prop::collection::vec(any::<String>(), 0..4)) {
        let all = json!({ "sub": sub, "groups": groups });
        if let Ok(identity) = claims::identity(all.as_object().unwrap(), &issuer(MAPPINGS), now()) {
            for name in identity.groups.iter().chain([&identity.user]) {
                prop_assert!(name.strip_prefix("ci:").is_some_and(|rest| !rest.is_empty()));
                prop_assert!(!name.chars().any(char::is_control));
            }
        }
    }

    #[test]
    fn the_leeway_is_ten_seconds(shift in -40..40i64) {
        let config = issuer(MAPPINGS);
        let all = claims(&json!({ "exp": now().as_second() + shift, "nbf": now().as_second() + shift }));
        let token = format!("{}.{}.", encode(br#"{"alg":"ES256"}"#), encode(all.to_string().as_bytes()));
        let jwt = Unverified::parse(&token).unwrap();
        let result = crate::registry::auth::jwt::verify::precheck(&jwt, &config.audiences, now());
        let good = shift > -10 && shift <= 10;
        prop_assert_eq!(result.is_ok(), good);
        if let Ok(expires) = result {
            prop_assert_eq!(expires, now() + SignedDuration::from_secs(shift));
        }
    }
}

#[test]
fn a_token_is_checked_by_the_issuer_that_it_names() {
    let issuers = Issuers::new(vec![issuer(MAPPINGS)], &[]).unwrap();
    assert_eq!(issuers.named(ISSUER).unwrap().url(), ISSUER);
    for other in ["https://login.example.com/", "https://login.example.co", "https://other.example.com", ""] {
        assert!(issuers.named(other).is_none(), "{other}");
    }
}
