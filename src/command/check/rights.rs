//! The permissions that the operator needs, and whether the user of the kubeconfig has them.

use futures::{StreamExt as _, stream};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::api::{Api, PostParams};
use kube::{Client, Error};

use super::report::Line;
use crate::api::GROUP;
use crate::controller::client::explain;

const CHECK: &str = "rights";
/// Reviews that are requested at once.
const AT_ONCE: usize = 8;
const FIX: &str = "grant the rules of this release: deploy/base/rbac.yaml, deploy/overlays/one-namespace or the chart; to check \
                   the permissions of the operator instead of yours, add --as system:serviceaccount:NAMESPACE:NAME";

/// A rule of RBAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub group: &'static str,
    /// A resource, or `RESOURCE/SUBRESOURCE`.
    pub resource: &'static str,
    pub verbs: &'static [&'static str],
}

/// The rules in each watched namespace. A test compares them with `deploy/base/rbac.yaml`.
pub(crate) const RULES: [Rule; 7] = [
    Rule { group: GROUP, resource: "modules", verbs: &["get", "list", "watch", "patch"] },
    Rule { group: GROUP, resource: "modules/status", verbs: &["patch"] },
    Rule { group: GROUP, resource: "versions/status", verbs: &["patch"] },
    Rule { group: GROUP, resource: "modules/finalizers", verbs: &["update"] },
    Rule {
        group: GROUP,
        resource: "versions",
        verbs: &["get", "list", "watch", "create", "patch", "delete"],
    },
    Rule { group: "", resource: "secrets", verbs: &["get"] },
    Rule { group: "events.k8s.io", resource: "events", verbs: &["create", "patch"] },
];

/// The rules in the namespace of the Lease. RBAC cannot restrict a create by name.
pub(crate) const LEASE_RULES: [Rule; 2] = [
    Rule { group: "coordination.k8s.io", resource: "leases", verbs: &["create"] },
    Rule { group: "coordination.k8s.io", resource: "leases", verbs: &["get", "update"] },
];

/// Where a rule is needed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope<'a> {
    /// `None`: in all namespaces.
    pub namespace: Option<&'a str>,
    /// Name of the only object. `None`: any object.
    pub name: Option<&'a str>,
}

/// One line per rule, in these namespaces, or in all if there are none. `secrets`: the Secrets that are needed; any if there are
/// none. `lease`: namespace and name.
pub(crate) async fn check(
    client: &Client,
    namespaces: &[String],
    secrets: &[String],
    lease: Option<(&str, &str)>,
) -> Vec<Line> {
    let watched = each_or_all(namespaces).flat_map(|namespace| {
        RULES.iter().flat_map(move |rule| {
            let names = if rule.resource == "secrets" { secrets } else { &[] };
            each_or_all(names).map(move |name| (*rule, Scope { namespace, name }))
        })
    });
    let lease = lease.into_iter().flat_map(|(namespace, name)| {
        let scope = |name| Scope { namespace: Some(namespace), name };
        [(LEASE_RULES[0], scope(None)), (LEASE_RULES[1], scope(Some(name)))]
    });
    let needed: Vec<(Rule, Scope<'_>)> = watched.chain(lease).collect();
    let lines = needed.into_iter().map(|(rule, scope)| line(client, rule, scope));
    stream::iter(lines).buffered(AT_ONCE).collect().await
}

/// Each name, or `None` for all if there are no names.
fn each_or_all(names: &[String]) -> impl Iterator<Item = Option<&str>> {
    let all = names.is_empty().then_some(None);
    all.into_iter().chain(names.iter().map(|name| Some(name.as_str())))
}

async fn line(client: &Client, rule: Rule, scope: Scope<'_>) -> Line {
    let what = describe(rule, scope);
    let mut denied = Vec::new();
    for verb in rule.verbs {
        match is_allowed(client, rule, verb, scope).await {
            Ok(true) => {}
            Ok(false) => denied.push(*verb),
            Err(error) => {
                let message = format!("{what}: the permissions cannot be reviewed: {}", explain(&error));
                let fix = "allow create of selfsubjectaccessreviews.authorization.k8s.io, which the role system:basic-user grants";
                return Line::failed(CHECK, message, fix);
            }
        }
    }
    if denied.is_empty() {
        Line::ok(CHECK, format!("{what}: {}", rule.verbs.join(", ")))
    } else {
        Line::failed(CHECK, format!("{what}: not allowed to {}", denied.join(", ")), FIX)
    }
}

fn describe(rule: Rule, scope: Scope<'_>) -> String {
    let group = if rule.group.is_empty() { String::new() } else { format!(".{}", rule.group) };
    let end_of_resource = rule.resource.find('/').unwrap_or(rule.resource.len());
    let (resource, subresource) = rule.resource.split_at(end_of_resource);
    let name = scope.name.map(|name| format!(" {name}")).unwrap_or_default();
    let place = scope.namespace.map_or("in all namespaces".to_owned(), |name| format!("in namespace {name}"));
    format!("{resource}{group}{subresource}{name} {place}")
}

async fn is_allowed(client: &Client, rule: Rule, verb: &str, scope: Scope<'_>) -> Result<bool, Error> {
    let mut parts = rule.resource.split('/').map(str::to_owned);
    let attributes = ResourceAttributes {
        group: Some(rule.group.to_owned()),
        resource: parts.next(),
        subresource: parts.next(),
        verb: Some(verb.to_owned()),
        namespace: scope.namespace.map(str::to_owned),
        name: scope.name.map(str::to_owned),
        ..ResourceAttributes::default()
    };
    let resource_attributes = Some(attributes);
    let spec = SelfSubjectAccessReviewSpec { resource_attributes, ..SelfSubjectAccessReviewSpec::default() };
    let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
    let answer = Api::all(client.clone()).create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    /// Group, resource, name, verb.
    type Right = (String, String, String, String);

    fn shipped(kind: &str) -> BTreeSet<Right> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/base/rbac.yaml");
        let text = std::fs::read_to_string(path).unwrap();
        let documents = text.split("\n---\n").map(|text| serde_yaml::from_str::<Value>(text).unwrap());
        let role = documents.into_iter().find(|document| document["kind"] == kind).unwrap();
        let texts =
            |list: &Value| -> Vec<String> { serde_json::from_value(list.clone()).unwrap_or_default() };
        let mut all = BTreeSet::new();
        for rule in role["rules"].as_array().unwrap() {
            let names = texts(&rule["resourceNames"]);
            let names = if names.is_empty() { vec![String::new()] } else { names };
            for group in texts(&rule["apiGroups"]) {
                for resource in texts(&rule["resources"]) {
                    for name in &names {
                        let right = |verb: String| (group.clone(), resource.clone(), name.clone(), verb);
                        all.extend(texts(&rule["verbs"]).into_iter().map(right));
                    }
                }
            }
        }
        all
    }

    fn ours(rule: &Rule, name: &str) -> Vec<Right> {
        let right = |verb: &&str| {
            (rule.group.to_owned(), rule.resource.to_owned(), name.to_owned(), (*verb).to_owned())
        };
        rule.verbs.iter().map(right).collect()
    }

    #[test]
    fn the_checked_rules_are_those_that_are_shipped() {
        let rules: BTreeSet<Right> = RULES.iter().flat_map(|rule| ours(rule, "")).collect();
        assert_eq!(rules, shipped("ClusterRole"));
        let [create, other] = &LEASE_RULES;
        let rules: BTreeSet<Right> = ours(create, "").into_iter().chain(ours(other, "opendepot")).collect();
        assert_eq!(rules, shipped("Role"));
    }
}
