//! Whether a Version is stored as its spec wants it is read twice: from what the watch keeps, and from the whole object.

#![expect(clippy::needless_pass_by_value, reason = "fixtures read best with json!() in place")]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{inline, version};

fn s3(change: Value) -> Value {
    json!({"spec": {"moduleConfigRef": {"storageConfig": {"s3": change}}}})
}

fn config(change: Value) -> Value {
    json!({"spec": {"moduleConfigRef": change}})
}

/// What may differ from a Version that is stored.
fn change() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![
        s3(json!({"endpoint": "https://s3.us-west-2.amazonaws.com/"})),
        s3(json!({"endpoint": "https://minio.example.com"})),
        s3(json!({"forcePathStyle": true})),
        s3(json!({"bucket": "other"})),
        s3(json!({"region": "eu-west-1"})),
        s3(json!({"key": "team/"})),
        s3(json!({"key": ""})),
        s3(json!({"key": "../team"})),
        s3(json!({"serverSideEncryption": "AES256"})),
        config(json!({"name": "net"})),
        config(json!({"name": null})),
        config(json!({"fileFormat": "tar"})),
        config(json!({"immutable": true})),
        config(json!({"repoUrl": "https://github.com/ACME/network.git"})),
        config(json!({"repoUrl": "https://github.com/acme/fork"})),
        config(json!({"repoUrl": "no address"})),
        config(json!({"storageConfig": null})),
        json!({"spec": {"moduleConfigRef": null}}),
        json!({"spec": {"fileName": null}}),
        json!({"spec": {"fileName": "second.zip"}}),
        json!({"spec": {"expectedDigest": "h1:first"}}),
        json!({"spec": {"expectedDigest": "h1:second"}}),
        json!({"spec": {"version": "v1.0.0"}}),
        json!({"spec": {"version": "2.0.0"}}),
        json!({"status": {"synced": false}}),
        json!({"status": {"checksum": null}}),
        json!({"status": {"contentDigest": null}}),
        json!({"status": {"contentDigest": "h1:second"}}),
        json!({"status": {"source": null}}),
        json!({"status": {"source": {"url": "https://github.com/acme/Network", "ref": "refs/tags/v1.0.0"}}}),
        json!({"status": {"storage": null}}),
        json!({"status": {"storage": {"forcePathStyle": false}}}),
        json!({"status": {"storage": {"endpoint": "https://MINIO.example.com:443"}}}),
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]
    #[test]
    fn both_readings_agree(owned: bool, changes in prop::collection::vec(change(), 0..4)) {
        let published = if owned { version() } else { inline() }.published();
        let changed = changes.iter().cloned().fold(published, super::Fixture::with);
        let view = changed.view();
        let full = view.work().is_ok_and(|work| view.stored_as_wanted(&work));
        prop_assert_eq!(changed.lean().stored_as_wanted, full, "{}", changed.0);
    }
}
