use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderValue};
use jiff::Timestamp;
use proptest::prelude::*;
use secrecy::ExposeSecret as _;

use crate::registry::auth::bearer::token;
use crate::registry::auth::denied::{self, Denied};
use crate::registry::auth::token::Unverified;

fn headers(values: &[&[u8]]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for value in values {
        headers.append(AUTHORIZATION, HeaderValue::from_bytes(value).unwrap());
    }
    headers
}

#[test]
fn a_bearer_token_is_found() {
    assert!(token(&HeaderMap::new()).unwrap().is_none());
    let longest = format!("Bearer {}", "a".repeat(16 * 1024));
    for value in ["Bearer abc", "bearer abc", "BEARER   abc", "Bearer a.b-c_d~e+f/g==", &longest] {
        let found = token(&headers(&[value.as_bytes()])).unwrap().unwrap();
        assert_eq!(found.expose_secret(), value.rsplit(' ').next().unwrap());
    }
}

#[test]
fn what_is_no_token_is_refused_and_never_anonymous() {
    let too_long = format!("Bearer {}", "a".repeat(16 * 1024 + 1));
    for (value, phrase) in [
        ("", denied::NOT_BEARER),
        ("Bearer", denied::EMPTY),
        ("bearer", denied::EMPTY),
        ("Bearer ", denied::EMPTY),
        ("Bearers", denied::NOT_BEARER),
        ("abc", denied::NOT_BEARER),
        ("Basic dXNlcjpwYXNz", denied::NOT_BEARER),
        ("Bearer\tabc", denied::NOT_BEARER),
        ("Bearer =", denied::MALFORMED),
        ("Bearer a b", denied::MALFORMED),
        ("Bearer a=b", denied::MALFORMED),
        ("Bearer a,b", denied::MALFORMED),
        (&too_long, denied::TOO_LONG),
    ] {
        let found = token(&headers(&[value.as_bytes()]));
        assert_eq!(found.map(drop).unwrap_err(), Denied::Unauthenticated(phrase), "{value:.40}");
    }
    let not_ascii = token(&headers(&[b"Bearer \xff"]));
    assert_eq!(not_ascii.map(drop).unwrap_err(), Denied::Unauthenticated(denied::NOT_BEARER));
}

#[test]
fn every_phrase_is_a_reason_phrase() {
    let source = include_str!("../denied.rs");
    let phrases: Vec<&str> = source.split('"').skip(1).step_by(2).collect();
    assert!(phrases.len() > 20, "{}", phrases.len());
    for phrase in phrases {
        assert!(phrase.len() <= 100 && phrase.bytes().all(|b| b == b' ' || b.is_ascii_graphic()), "{phrase}");
    }
}

proptest! {
    #[test]
    fn any_header_has_a_token_or_a_reason(value in prop::collection::vec(prop_oneof![32..127u8, 128..=255u8], 0..40)) {
        if let Ok(Some(token)) = token(&headers(&[&value])) {
            let text = token.expose_secret();
            prop_assert!(!text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && b != b','));
            let _ = Unverified::parse(text);
        }
    }

    #[test]
    fn times_are_cut_to_seconds_or_refused(exp in prop_oneof![
        any::<i64>().prop_map(serde_json::Value::from),
        any::<f64>().prop_map(serde_json::Value::from),
        any::<String>().prop_map(serde_json::Value::from),
    ]) {
        let claims = serde_json::json!({ "exp": exp });
        let jwt = super::doubles::jwt(&serde_json::json!({ "alg": "RS256" }), &claims, b"");
        let time = Unverified::parse(&jwt).unwrap().expires();
        if let Ok(Some(time)) = time {
            let seconds = |time: Timestamp| serde_json::Value::from(time.as_second()).as_f64().unwrap();
            let exp = exp.as_f64().unwrap().clamp(seconds(Timestamp::MIN), seconds(Timestamp::MAX));
            let seconds = seconds(time);
            prop_assert!((seconds - exp).abs() <= 1.0 + exp.abs() * 1e-9);
        }
    }
}
