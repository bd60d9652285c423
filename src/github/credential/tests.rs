use std::sync::LazyLock;

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der},
    rsa::{KeyPair, KeySize},
    signature::KeyPair as _,
};

use super::*;

fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(|c| str::from_utf8(c).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

static PAIR: LazyLock<KeyPair> = LazyLock::new(|| KeyPair::generate(KeySize::Rsa2048).unwrap());

static PKCS8: LazyLock<String> = LazyLock::new(|| {
    let der: Pkcs8V1Der<'_> = PAIR.as_der().unwrap();
    pem("PRIVATE KEY", der.as_ref())
});

static PUBLIC: LazyLock<String> = LazyLock::new(|| {
    let der: PublicKeyX509Der<'_> = PAIR.public_key().as_der().unwrap();
    pem("PUBLIC KEY", der.as_ref())
});

static PKCS1: LazyLock<String> =
    LazyLock::new(|| pem("RSA PRIVATE KEY", EncodingKey::from_rsa_pem(PKCS8.as_bytes()).unwrap().inner()));

/// An App with a fresh key, the same one throughout a test run.
pub(in crate::github) fn app() -> AppKey {
    AppKey::new(7, 42, PKCS8.as_bytes()).unwrap()
}

fn secret(pairs: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), v.as_bytes().to_vec())).collect()
}

#[test]
fn every_spelling_of_a_key_is_the_same_key() {
    let indented = PKCS1.replace('\n', "\n    ");
    let base64 = BASE64_STANDARD.encode(PKCS1.as_bytes());
    let folded = format!("{}\n{}\n", &base64[..76], &base64[76..]);
    for (what, text) in [
        ("PKCS#1", PKCS1.clone()),
        ("CRLF", PKCS1.replace('\n', "\r\n")),
        ("indented", indented),
        ("written-out line ends", PKCS1.replace('\n', "\\n")),
        ("surrounding blanks", format!("\n  {}  \n\n", *PKCS8)),
        ("base64", base64),
        ("folded base64", folded),
        ("base64 of PKCS#8", BASE64_STANDARD.encode(PKCS8.as_bytes())),
    ] {
        let data = secret(&[(APP_ID, " 7\n"), (INSTALLATION_ID, "42"), (PRIVATE_KEY, &text)]);
        let credential = credential_from_secret(&data).expect(what);
        assert_eq!(credential.identity(), Credential::App(app()).identity(), "{what}");
    }
}

#[test]
fn what_is_unusable_is_named() {
    // One digit of the modulus is another one: well-formed, but no key.
    let (at, digit) = (PKCS1.len() / 5, &PKCS1[PKCS1.len() / 5..=PKCS1.len() / 5]);
    let damaged = format!("{}{}{}", &PKCS1[..at], if digit == "A" { "B" } else { "A" }, &PKCS1[at + 1..]);
    let app = |key: &str| {
        vec![(APP_ID, "7"), (INSTALLATION_ID, "42"), (PRIVATE_KEY, key)]
            .into_iter()
            .map(|(k, v)| (k.to_owned(), v.as_bytes().to_vec()))
            .collect::<BTreeMap<_, _>>()
    };
    let incomplete = |missing: &[&'static str]| CredentialError::Incomplete { missing: missing.to_vec() };
    for (data, error) in [
        (secret(&[]), CredentialError::Missing),
        (secret(&[(APP_ID, " "), (TOKEN, "")]), CredentialError::Missing),
        (secret(&[(APP_ID, "7"), (PRIVATE_KEY, "x")]), incomplete(&[INSTALLATION_ID])),
        (secret(&[(APP_ID, "7")]), incomplete(&[INSTALLATION_ID, PRIVATE_KEY])),
        (
            secret(&[(APP_ID, "Iv1"), (INSTALLATION_ID, "42"), (PRIVATE_KEY, "x")]),
            CredentialError::NotANumber { key: APP_ID },
        ),
        (app("not a key"), CredentialError::NotPem),
        (app(&BASE64_STANDARD.encode("not a key")), CredentialError::NotPem),
        (app(&damaged), CredentialError::UnusableKey),
        (app(&PUBLIC), CredentialError::UnusableKey),
        (app(&PKCS1[..PKCS1.len() / 2]), CredentialError::UnusableKey),
        (secret(&[(TOKEN, "two words")]), CredentialError::BadToken),
    ] {
        assert_eq!(credential_from_secret(&data).map(|c| c.identity()), Err(error));
    }
}

#[test]
fn a_complete_app_comes_before_a_token_and_an_incomplete_one_after() {
    let mut data =
        secret(&[(APP_ID, "7"), (INSTALLATION_ID, "42"), (PRIVATE_KEY, &PKCS8), (TOKEN, "ghp_example\n")]);
    assert_eq!(credential_from_secret(&data).unwrap().identity().kind(), Some("app"));
    data.remove(APP_ID);
    let Ok(Credential::Token(token)) = credential_from_secret(&data) else { panic!("no token") };
    assert_eq!(token.expose_secret(), "ghp_example");
}

#[test]
fn debug_shows_no_secret() {
    let text = format!("{:?} {:?}", Credential::Token("ghp_example".into()), Credential::App(app()));
    assert!(!text.contains("ghp_example"), "{text}");
    assert!(!text.contains("MII") && text.contains("redacted"), "{text}");
}

#[test]
fn white_space_around_a_token_is_no_part_of_it() {
    for text in ["ghp_example", " ghp_example\r\n"] {
        let Ok(Credential::Token(token)) = Credential::token(text.as_bytes()) else { panic!("{text:?}") };
        assert_eq!(token.expose_secret(), "ghp_example");
    }
    for text in ["", " \n", "two words", "ghp_ü"] {
        let error = Credential::token(text.as_bytes()).map(|credential| credential.identity());
        assert_eq!(error, Err(CredentialError::BadToken), "{text:?}");
    }
}
