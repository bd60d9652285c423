//! The target that a spec describes: location, tags, expected digest, and whether it is stored.

use serde_json::{Value, json};

use super::{Fixture, inline, passing, stored, version};
use crate::api::target::{satisfies_spec, throttled_request};
use crate::api::{MODULE_REQUEST, REQUESTED_AT};
use crate::domain::object_key::derived_file_name;
use crate::domain::{ArchiveFormat, Release};

#[test]
fn tags_of_a_later_sync_begin_with_the_one_that_was_found() {
    let tags = |version: &Fixture| version.target().tags;
    assert_eq!(tags(&version()), ["1.0.0", "v1.0.0"]);
    assert_eq!(tags(&stored()), ["v1.0.0", "1.0.0"]);
    let stored_from = |url: &str| stored().with(json!({"spec": {"moduleConfigRef": {"repoUrl": url}}}));
    assert_eq!(tags(&stored_from("https://github.com/Acme/Network")), ["v1.0.0", "1.0.0"]);
    assert_eq!(tags(&stored_from("https://github.com/acme/net")), ["1.0.0", "v1.0.0"]);
}

#[test]
fn content_is_pinned_by_the_module_or_by_what_is_stored() {
    let pinned = |version: &Fixture| version.target().expected_digest;
    let immutable = json!({"spec": {"moduleConfigRef": {"immutable": true}}});
    let expected = json!({"spec": {"expectedDigest": "h1:expected"}});
    assert_eq!(pinned(&stored()), None);
    assert_eq!(pinned(&version().with(immutable.clone())), None);
    assert_eq!(pinned(&stored().with(immutable.clone())).as_deref(), Some("h1:first"));
    assert_eq!(pinned(&stored().with(immutable).with(expected)).as_deref(), Some("h1:expected"));
}

#[test]
fn a_derived_file_name_depends_on_everything_that_distinguishes_versions() {
    let name = |ns: &str, name: &str, version: &str, format| {
        derived_file_name(ns, name, &Release::parse(version).unwrap(), format)
    };
    let one = name("acme", "a", "1.0.0", ArchiveFormat::Zip);
    assert_eq!(one, name("acme", "a", "v1.0.0", ArchiveFormat::Zip));
    for other in [
        name("beta", "a", "1.0.0", ArchiveFormat::Zip),
        name("acme", "b", "1.0.0", ArchiveFormat::Zip),
        name("acme", "a", "1.0.1", ArchiveFormat::Zip),
        name("acme", "a", "1.0.0", ArchiveFormat::Tar),
    ] {
        assert_ne!(one, other);
    }
    assert!(name("acme", "a", "1.0.0", ArchiveFormat::Tar).ends_with(".tar.gz"));
}

#[test]
fn a_force_has_one_name_until_it_is_handled() {
    let name = |version: Fixture| throttled_request(&version.version());
    assert_eq!(name(stored()), None);
    assert_eq!(name(stored().forced()).as_deref(), Some("forceSync/5"));
    assert_eq!(name(stored().annotated(REQUESTED_AT, "now")).as_deref(), Some("requestedAt/now"));
    assert_eq!(name(version().annotated(REQUESTED_AT, "now").published()), None);
    assert_eq!(name(stored().annotated(MODULE_REQUEST, "token")), None, "the Module has counted it");
    assert_eq!(name(stored().forced().annotated(MODULE_REQUEST, "token")), None, "done along with that");
    assert_eq!(name(stored().forced().failed(&passing())), None, "a retry is no new force");
    let again = stored().forced().failed(&passing()).next_generation();
    assert_eq!(name(again).as_deref(), Some("forceSync/6"), "a loop of forces that fail is a loop too");
}

fn s3(change: &Value) -> Value {
    json!({"spec": {"moduleConfigRef": {"storageConfig": {"s3": change}}}})
}

fn config(change: &Value) -> Value {
    json!({"spec": {"moduleConfigRef": change}})
}

#[test]
fn stored_means_at_this_location_from_this_repository_with_this_content() {
    let same = [
        s3(&json!({"endpoint": "https://s3.us-west-2.amazonaws.com/"})),
        s3(&json!({"forcePathStyle": true})),
        s3(&json!({"key": ""})),
        s3(&json!({"serverSideEncryption": "AES256"})),
        config(&json!({"immutable": true})),
        config(&json!({"repoUrl": "https://github.com/ACME/network.git"})),
        json!({"spec": {"expectedDigest": "h1:first"}}),
        json!({"spec": {"version": "v1.0.0"}}),
        json!({"status": {"source": null}}),
        json!({"status": {"source": {"url": "https://github.com/acme/Network", "ref": "refs/tags/v1.0.0"}}}),
        json!({"status": {"storage": {"forcePathStyle": false}}}),
    ];
    let other = [
        s3(&json!({"endpoint": "https://minio.example.com"})),
        s3(&json!({"bucket": "other"})),
        s3(&json!({"region": "eu-west-1"})),
        s3(&json!({"key": "team/"})),
        s3(&json!({"key": "../team"})),
        config(&json!({"name": "net"})),
        config(&json!({"fileFormat": "tar"})),
        config(&json!({"repoUrl": "https://github.com/acme/fork"})),
        config(&json!({"repoUrl": "no address"})),
        config(&json!({"storageConfig": null})),
        json!({"spec": {"moduleConfigRef": null}}),
        json!({"spec": {"fileName": null}}),
        json!({"spec": {"fileName": "second.zip"}}),
        json!({"spec": {"expectedDigest": "h1:second"}}),
        json!({"status": {"synced": false}}),
        json!({"status": {"checksum": null}}),
        json!({"status": {"storage": null}}),
        json!({"status": {"storage": {"endpoint": "https://MINIO.example.com:443"}}}),
    ];
    for change in same {
        assert!(satisfies_spec(&stored().with(change.clone()).version()), "{change}");
    }
    for change in other {
        assert!(!satisfies_spec(&stored().with(change.clone()).version()), "{change}");
    }
    let immutable = config(&json!({"immutable": true}));
    let lost = stored().with(immutable).with(json!({"status": {"contentDigest": null}}));
    assert!(satisfies_spec(&lost.version()), "without a digest nothing is expected");
    assert!(satisfies_spec(&inline().published().version()), "at the derived location");
    assert!(!satisfies_spec(&inline().published().with(json!({"spec": {"version": "2.0.0"}})).version()));
}

#[test]
fn one_repository_has_one_key_however_it_is_spelled() {
    let key = |config: Value| {
        version().with(json!({"spec": {"moduleConfigRef": config}})).version().repository_key()
    };
    let plain = key(json!({}));
    assert!(!plain.is_empty());
    for spelling in [
        "https://github.com/acme/network.git",
        "https://github.com/ACME/Network",
        "https://github.com/acme/network/",
    ] {
        assert_eq!(key(json!({"repoUrl": spelling})), plain, "{spelling}");
    }
    assert_eq!(key(json!({"repoUrl": null, "repoOwner": "acme"})), plain);
    for other in ["https://github.com/acme/net", "https://ghe.example/acme/network", "not a repository"] {
        assert_ne!(key(json!({"repoUrl": other})), plain, "{other}");
    }
}
