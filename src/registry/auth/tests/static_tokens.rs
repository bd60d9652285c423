use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use tempfile::TempDir;

use super::PEER;
use super::doubles::{Server, bearer};
use crate::registry::auth::denied::{self, Denied};
use crate::registry::auth::settings::AccessSettings;
use crate::registry::auth::static_tokens::StaticTokens;

fn token(filler: char) -> String {
    format!("odt_{}", filler.to_string().repeat(43))
}

fn sum(token: &str) -> String {
    let mut text = "sha256:".to_owned();
    for byte in digest(&SHA256, token.as_bytes()).as_ref() {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}

fn open(folder: &Path) -> StaticTokens {
    StaticTokens::open(Some(folder.to_owned())).unwrap()
}

#[test]
fn a_token_is_known_by_the_file_with_its_digest() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("ci"), format!("{}\n", sum(&token('a')))).unwrap();
    fs::write(folder.path().join("upper"), sum(&token('b')).to_uppercase().replace("SHA256", "sha256"))
        .unwrap();
    let tokens = open(folder.path());
    let identity = tokens.find(&token('a')).unwrap();
    assert_eq!(
        (identity.user.as_str(), &*identity.groups),
        ("opendepot:token:ci", &["opendepot:tokens".into()][..])
    );
    assert_eq!(tokens.find(&token('b')).unwrap().user, "opendepot:token:upper");
    assert_eq!(tokens.find(&token('c')), Err(denied::UNKNOWN_STATIC));
    // One whose digest begins alike.
    let begins = |token: &str| sum(token)["sha256:".len()..][..2].to_owned();
    let mut others = (0..).map(|number| format!("odt_{number:043}"));
    let alike = others.find(|other| begins(other) == begins(&token('a'))).unwrap();
    assert_eq!(tokens.find(&alike), Err(denied::UNKNOWN_STATIC));
}

#[test]
fn what_is_no_digest_of_one_token_does_not_count() {
    let folder = TempDir::new().unwrap();
    let write = |name: &str, content: &str| fs::write(folder.path().join(name), content).unwrap();
    write("plain", &token('a'));
    write("cut", &sum(&token('b'))[..70]);
    write("two-lines", &format!("{}\n{}", sum(&token('c')), sum(&token('d'))));
    write("first", &sum(&token('e')));
    write("second", &sum(&token('e')));
    write("..2026_secret", &sum(&token('f')));
    write("a b", &sum(&token('g')));
    write("short", &sum("odt_short"));
    write("good", &sum(&token('h')));
    let tokens = open(folder.path());
    for filler in 'a'..='g' {
        assert_eq!(tokens.find(&token(filler)), Err(denied::UNKNOWN_STATIC), "{filler}");
    }
    assert_eq!(tokens.find("odt_short"), Err(denied::SHORT_STATIC));
    assert_eq!(tokens.find(&token('h')).unwrap().user, "opendepot:token:good");
    // The second file is removed, and the token counts for the first.
    fs::remove_file(folder.path().join("second")).unwrap();
    tokens.reload().unwrap();
    assert_eq!(tokens.find(&token('e')).unwrap().user, "opendepot:token:first");
}

/// As the kubelet mounts a Secret, and swaps its content.
#[test]
fn a_mounted_secret_is_followed() {
    let folder = TempDir::new().unwrap();
    let at = |path: &str| folder.path().join(path);
    for (version, filler) in [("..v1", 'a'), ("..v2", 'b')] {
        fs::create_dir(at(version)).unwrap();
        fs::write(at(version).join("ci"), sum(&token(filler))).unwrap();
    }
    symlink("..v1", at("..data")).unwrap();
    symlink("..data/ci", at("ci")).unwrap();
    let tokens = open(folder.path());
    assert!(tokens.find(&token('a')).is_ok());
    symlink("..v2", at("..next")).unwrap();
    fs::rename(at("..next"), at("..data")).unwrap();
    tokens.reload().unwrap();
    assert!(tokens.find(&token('a')).is_err() && tokens.find(&token('b')).is_ok());
    // A folder that cannot be read changes nothing.
    fs::rename(folder.path(), folder.path().with_extension("away")).unwrap();
    assert!(tokens.reload().is_err() && tokens.find(&token('b')).is_ok());
    fs::rename(folder.path().with_extension("away"), folder.path()).unwrap();
}

#[tokio::test]
async fn a_static_token_is_never_sent_to_the_api_server() {
    let (folder, server) = (TempDir::new().unwrap(), Server::default());
    fs::write(folder.path().join("ci"), sum(&token('a'))).unwrap();
    let access = server
        .access(AccessSettings { tokens_dir: Some(folder.path().to_owned()), ..AccessSettings::default() });
    let identity = access.identify(&bearer(&token('a')), PEER).await.unwrap();
    assert_eq!(identity.user, "opendepot:token:ci");
    let unknown = access.identify(&bearer(&token('b')), PEER).await;
    assert_eq!(unknown, Err(Denied::Unauthenticated(denied::UNKNOWN_STATIC)));
    // Without the flag too.
    let without = server.access(AccessSettings::default()).identify(&bearer(&token('a')), PEER).await;
    assert_eq!(without, Err(Denied::Unauthenticated(denied::UNKNOWN_STATIC)));
    assert_eq!(server.counts(), (0, 0));
}
