//! Which Versions wait in one queue to be published.

use serde_json::{Value, json};

use super::{Fixture, inline, stored, version};
use crate::version::queue_key;

fn queue(version: &Fixture) -> u64 {
    queue_key(&version.version())
}

#[test]
fn versions_of_one_module_share_a_queue_until_they_have_an_object() {
    let other = json!({"metadata": {"name": "network-2.0.0", "uid": "other"}, "spec": {"version": "2.0.0"}});
    assert_eq!(queue(&version()), queue(&version().with(other.clone())));
    assert_eq!(queue(&stored()), queue(&stored().with(other).forced()));
    assert_ne!(queue(&version()), queue(&stored()), "a new version does not wait for a forced sync");
}

#[test]
fn modules_of_one_repository_have_queues_of_their_own() {
    let owner = json!([{"apiVersion": "opendepot.defdev.io/v1alpha1", "kind": "Module", "name": "staging",
        "uid": "uid-of-staging", "controller": true}]);
    let staging = version().with(json!({"metadata": {"ownerReferences": owner}}));
    assert_ne!(queue(&version()), queue(&staging));
    let elsewhere = version().with(json!({"metadata": {"namespace": "elsewhere"}}));
    assert_ne!(queue(&version()), queue(&elsewhere), "it names the same owner");
}

#[test]
fn versions_without_a_module_share_the_queue_of_the_module_that_they_name() {
    let renamed = |version: Fixture| version.with(json!({"metadata": {"name": "another", "uid": "another"}}));
    let naming = |name: Value| inline().with(json!({"spec": {"moduleConfigRef": {"name": name}}}));
    assert_eq!(queue(&inline()), queue(&renamed(inline())));
    assert_ne!(queue(&inline()), queue(&naming(json!("dns"))));
    // The name of a Version is the default.
    assert_eq!(queue(&naming(json!(null))), queue(&naming(json!("one-off"))));
    assert_ne!(queue(&naming(json!(null))), queue(&renamed(naming(json!(null)))));
}
