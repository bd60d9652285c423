//! What cookies hold.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use secrecy::ExposeSecret as _;

use crate::registry::link::LinkKeys;
use crate::registry::session::attempt::{Attempt, LIFETIME};
use crate::registry::session::cookie::{self, ATTEMPT, LONGEST_CONTENT, SESSION};
use crate::registry::session::token::{LONGEST_TOKEN, content, end, fits, token};

const NOW: u64 = 1_800_000_000;

fn text(content: &[u8], now: u64) -> Option<String> {
    token(content, now).map(|token| token.expose_secret().to_owned())
}

#[test]
fn a_session_ends_with_its_token_or_after_twelve_hours() {
    let hours = 60 * 60;
    for (expires, expected) in [
        (None, NOW + 12 * hours),
        (Some(NOW + hours), NOW + hours),
        (Some(NOW + 24 * hours), NOW + 12 * hours),
        (Some(NOW - 1), NOW - 1),
        (Some(0), 0),
    ] {
        assert_eq!(end(NOW, expires), expected, "{expires:?}");
    }
    let session = content("odt_token", NOW + 10);
    assert_eq!(text(&session, NOW + 9).as_deref(), Some("odt_token"));
    assert_eq!(text(&session, NOW + 10), None);
}

#[test]
fn a_token_fits_if_a_browser_keeps_its_cookie() {
    let keys = LinkKeys::random();
    let part = |bytes: usize| URL_SAFE_NO_PAD.encode(vec![b'x'; bytes]);
    let jwt = |claims: usize| format!("{}.{}.{}", part(90), part(claims), part(256));
    let kept = |token: &str| cookie::kept(SESSION, &content(token, NOW), 60, &keys);
    let longest = jwt(1956);
    assert!(longest.len() > LONGEST_TOKEN - 4 && fits(&longest) && !fits(&jwt(1960)));
    // Before an opaque token there are the end and the kind.
    let opaque = LONGEST_CONTENT - 8 - 1;
    let (fitting, other) = ("~".repeat(opaque), "~".repeat(opaque + 1));
    assert!(opaque > 2900 && fits(&fitting) && !fits(&other) && kept(&other).is_none());
    for token in [longest, fitting] {
        let cookie = kept(&token).unwrap();
        let pair = cookie.to_str().unwrap().split(';').next().unwrap();
        assert!(pair.len() <= 4096, "{}", pair.len());
    }
}

#[test]
fn a_cookie_is_taken_only_from_this_host_over_https_and_not_read_by_scripts() {
    let keys = LinkKeys::random();
    for cookie in [cookie::kept(SESSION, b"x", 60, &keys).unwrap(), cookie::removed(ATTEMPT).unwrap()] {
        let text = cookie.to_str().unwrap();
        assert!(text.starts_with("__Host-"), "{text}");
        assert!(text.ends_with("; Path=/; Secure; HttpOnly; SameSite=Lax"), "{text}");
        assert!(cookie.is_sensitive(), "kept out of debug output");
    }
}

#[test]
fn a_cookie_is_found_among_others_and_never_under_another_name() {
    let keys = LinkKeys::random();
    let cookie = cookie::kept(SESSION, b"content", 60, &keys).unwrap();
    let pair = cookie.to_str().unwrap().split(';').next().unwrap().to_owned();
    let value = pair.split_once('=').unwrap().1;
    let opened = |text: &str| {
        let headers = [(http::header::COOKIE, text.parse().unwrap())].into_iter().collect();
        cookie::opened(&headers, SESSION, &keys)
    };
    for (text, found) in [
        (pair.clone(), true),
        (format!("a=b; {pair};c"), true),
        (format!("{SESSION}=planted; {pair}"), true),
        (format!("{ATTEMPT}={value}"), false),
        (format!("{SESSION}={value}x"), false),
        (format!("x{pair}"), false),
        (String::new(), false),
    ] {
        assert_eq!(opened(&text).is_some(), found, "{text}");
    }
    let headers =
        [(http::header::COOKIE, format!("{ATTEMPT}={value}").parse().unwrap())].into_iter().collect();
    assert_eq!(cookie::opened(&headers, ATTEMPT, &keys), None, "sealed under another name");
}

#[test]
fn a_sign_in_waits_for_ten_minutes() {
    let attempt = Attempt::new("/modules/a/b/c", NOW);
    let content = attempt.content();
    assert_eq!(Attempt::open(&content, NOW + LIFETIME - 1), Some(attempt.clone()));
    assert_eq!(Attempt::open(&content, NOW + LIFETIME), None);
    let state = URL_SAFE_NO_PAD.encode(attempt.state);
    assert!(attempt.has_state(&state));
    let other = Attempt::new("/", NOW);
    for odd in ["", &state[1..], &format!("{state}="), &URL_SAFE_NO_PAD.encode(other.state)] {
        assert!(!attempt.has_state(odd), "{odd}");
    }
}

proptest! {
    #[test]
    fn every_token_comes_back_as_it_was(raw in "[-A-Za-z0-9._~+/]{1,200}=?", bytes: [Vec<u8>; 3], at in 1_u64..100) {
        let jwt = bytes.map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
        for one in [raw, jwt] {
            let packed = content(&one, NOW + at);
            prop_assert_eq!(text(&packed, NOW), Some(one));
            prop_assert_eq!(text(&packed, NOW + at), None);
        }
    }

    #[test]
    fn no_content_panics(bytes: Vec<u8>) {
        let _ = (token(&bytes, 0), Attempt::open(&bytes, 0));
    }
}
