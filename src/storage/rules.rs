//! Who may store where: `--allow-storage` and `--s3-endpoint`. In: the flags' texts and a [`ObjectLocation`]. Out: yes, or the
//! reason and the flag that would permit it. Pure: one AWS identity serves all namespaces, so these rules are all that
//! keeps one namespace out of another's bucket.

use std::str::FromStr;

use thiserror::Error;

use crate::domain::names::{is_bucket_name, is_dns_label};
use crate::domain::object_key::plain;
use crate::domain::{Endpoint, EndpointError, ObjectLocation};

/// Everything the flags permit.
#[derive(Clone, Debug, Default)]
pub struct StorageRules {
    allow: Vec<StorageRule>,
    endpoints: Vec<Endpoint>,
}

/// One `--allow-storage NAMESPACE=BUCKET[/PREFIX]`; `*` stands for any namespace, or for any bucket and key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageRule {
    namespace: Option<String>,
    target: Option<Target>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    bucket: String,
    prefix: Option<String>,
}

/// What is wrong with an `--allow-storage` value, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{rule:?} {problem}; write NAMESPACE=BUCKET[/PREFIX], such as team-a=modules/team-a, or * for either side"
)]
pub struct StorageRuleError {
    rule: String,
    problem: &'static str,
}

/// Why a namespace may not use a place.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    /// No `--allow-storage` covers bucket and key.
    #[error(
        "{namespace} may not store in {place}: no --allow-storage permits it; use a bucket and prefix that are \
             permitted, or run the operator with --allow-storage {namespace}={bucket}"
    )]
    Storage {
        /// Who wants to store.
        namespace: String,
        /// The object, as `s3://bucket/key`.
        place: String,
        /// The bucket that would have to be permitted.
        bucket: String,
    },
    /// The endpoint is none of `--s3-endpoint`.
    #[error(
        "the S3 endpoint {0} is not permitted; leave it out to use AWS, or run the operator with --s3-endpoint {0}"
    )]
    Endpoint(Endpoint),
    /// The endpoint is no usable URL.
    #[error(transparent)]
    BadEndpoint(#[from] EndpointError),
}

impl StorageRules {
    /// Rules out of the flags' values. `default_endpoint` is `AWS_ENDPOINT_URL_S3`, where that is set: requests without
    /// an endpoint go there, so naming it is no more than saying nothing.
    pub fn new(
        allow: Vec<StorageRule>,
        mut endpoints: Vec<Endpoint>,
        default_endpoint: Option<Endpoint>,
    ) -> Self {
        endpoints.extend(default_endpoint);
        Self { allow, endpoints }
    }

    /// Whether any namespace may store anywhere, which deserves a warning at start.
    pub fn allows_anything(&self) -> bool {
        self.allow.is_empty()
    }

    /// Checks bucket, key and endpoint of a place.
    ///
    /// # Errors
    /// [`Refused`], which names the flag that would permit it.
    pub fn check(&self, namespace: &str, place: &ObjectLocation) -> Result<(), Refused> {
        if !self.allows(namespace, &place.bucket, &place.key) {
            let (namespace, bucket) = (namespace.to_owned(), place.bucket.clone());
            return Err(Refused::Storage { namespace, place: place.to_string(), bucket });
        }
        let Some(endpoint) = &place.endpoint else { return Ok(()) };
        let endpoint: Endpoint = endpoint.parse()?;
        if endpoint.is_aws(&place.region) || self.endpoints.contains(&endpoint) {
            Ok(())
        } else {
            Err(Refused::Endpoint(endpoint))
        }
    }

    /// Whether the namespace may use this key of this bucket. Prefixes match whole segments: `team` permits `team/x`,
    /// not `team-b/x`.
    pub fn allows(&self, namespace: &str, bucket: &str, key: &str) -> bool {
        self.allow.is_empty() || self.allow.iter().any(|rule| rule.allows(namespace, bucket, key))
    }
}

impl StorageRule {
    fn allows(&self, namespace: &str, bucket: &str, key: &str) -> bool {
        self.namespace.as_deref().is_none_or(|only| only == namespace)
            && self.target.as_ref().is_none_or(|target| target.covers(bucket, key))
    }
}

impl Target {
    fn covers(&self, bucket: &str, key: &str) -> bool {
        let below = |prefix: &str| key.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'));
        self.bucket == bucket && self.prefix.as_deref().is_none_or(below)
    }
}

impl FromStr for StorageRule {
    type Err = StorageRuleError;

    fn from_str(rule: &str) -> Result<Self, StorageRuleError> {
        let wrong = |problem| StorageRuleError { rule: rule.to_owned(), problem };
        let (namespace, target) = rule.split_once('=').ok_or_else(|| wrong("has no `=`"))?;
        let namespace = match namespace {
            "*" => None,
            name if is_dns_label(name) => Some(name.to_owned()),
            _ => return Err(wrong("does not start with a namespace's full name")),
        };
        if target == "*" {
            return Ok(Self { namespace, target: None });
        }
        let (bucket, prefix) = match target.split_once('/') {
            Some((bucket, prefix)) => (bucket, Some(prefix.strip_suffix('/').unwrap_or(prefix))),
            None => (target, None),
        };
        if !is_bucket_name(bucket) {
            return Err(wrong(
                "does not name a bucket (3 to 63 lower-case letters, digits, dots and hyphens)",
            ));
        }
        let prefix = prefix.filter(|prefix| !prefix.is_empty());
        if prefix.is_some_and(|prefix| prefix.contains('*') || plain("key prefix", prefix).is_err()) {
            return Err(wrong(
                "has a prefix that is not plain path segments (no `*`, `.`, `..` or empty ones)",
            ));
        }
        let target = Target { bucket: bucket.to_owned(), prefix: prefix.map(str::to_owned) };
        Ok(Self { namespace, target: Some(target) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rules(allow: &[&str], endpoints: &[&str], default: Option<&str>) -> StorageRules {
        let endpoint = |text: &&str| text.parse().expect("an endpoint");
        StorageRules::new(
            allow.iter().map(|rule| rule.parse().expect("a rule")).collect(),
            endpoints.iter().map(endpoint).collect(),
            default.as_ref().map(endpoint),
        )
    }

    fn place(endpoint: Option<&str>) -> ObjectLocation {
        ObjectLocation {
            bucket: "modules".into(),
            key: "team-a/vpc/a.zip".into(),
            region: "us-west-2".into(),
            endpoint: endpoint.map(str::to_owned),
            force_path_style: None,
        }
    }

    #[test]
    fn rules_permit_what_they_say() {
        let table: &[(&[&str], &str, &str, &str, bool)] = &[
            (&[], "any", "any-bucket", "k/a.zip", true),
            (&["team-a=modules"], "team-a", "modules", "vpc/a.zip", true),
            (&["team-a=modules/"], "team-a", "modules", "vpc/a.zip", true),
            (&["team-a=modules"], "team-a", "modules2", "vpc/a.zip", false),
            (&["team-a=modules"], "team-b", "modules", "vpc/a.zip", false),
            (&["team-a=modules/team"], "team-a", "modules", "team/vpc/a.zip", true),
            (&["team-a=modules/team/"], "team-a", "modules", "team/vpc/a.zip", true),
            (&["team-a=modules/team"], "team-a", "modules", "team-b/vpc/a.zip", false),
            (&["team-a=modules/team"], "team-a", "modules", "team", false),
            (&["team-a=modules/x/y"], "team-a", "modules", "x/a.zip", false),
            (&["*=modules"], "team-b", "modules", "vpc/a.zip", true),
            (&["*=modules"], "team-b", "other", "vpc/a.zip", false),
            (&["team-a=*"], "team-a", "whatever", "vpc/a.zip", true),
            (&["team-a=*"], "team-b", "whatever", "vpc/a.zip", false),
            (&["*=*"], "team-b", "whatever", "vpc/a.zip", true),
            (&["team-a=one", "team-b=two"], "team-b", "two", "vpc/a.zip", true),
            (&["team-a=one", "team-b=two"], "team-b", "one", "vpc/a.zip", false),
        ];
        for (allow, namespace, bucket, key, expected) in table {
            let allowed = rules(allow, &[], None).allows(namespace, bucket, key);
            assert_eq!(allowed, *expected, "{allow:?}: {namespace} {bucket}/{key}");
        }
    }

    #[test]
    fn a_wrong_rule_says_what_to_write() {
        let table = [
            ("modules", "no `=`"),
            ("=modules", "namespace"),
            ("team-*=modules", "namespace"),
            ("Team=modules", "namespace"),
            ("team-a=", "bucket"),
            ("team-a=/x", "bucket"),
            ("team-a=*/x", "bucket"),
            ("team-a=Modules", "bucket"),
            ("team-a=mod*", "bucket"),
            ("team-a=arn:aws:s3:::modules", "bucket"),
            ("team-a=modules/../x", "prefix"),
            ("team-a=modules//x", "prefix"),
            ("team-a=modules/x*", "prefix"),
        ];
        for (rule, problem) in table {
            let message = rule.parse::<StorageRule>().expect_err(rule).to_string();
            assert!(message.contains(problem) && message.contains("NAMESPACE=BUCKET[/PREFIX]"), "{message}");
        }
    }

    #[test]
    fn endpoints_are_compared_not_as_text_but_as_urls() {
        let rules = rules(&[], &["https://S3.Example.com:443/"], Some("http://127.0.0.1:9000"));
        for endpoint in [
            None,
            Some("https://s3.example.com"),
            Some("HTTPS://s3.example.com/"),
            Some("http://127.0.0.1:9000/"),
            Some("https://s3.us-west-2.amazonaws.com"),
            Some("https://s3.dualstack.us-west-2.amazonaws.com/"),
        ] {
            assert_eq!(rules.check("team-a", &place(endpoint)), Ok(()), "{endpoint:?}");
        }
        for endpoint in [
            "http://s3.example.com",
            "https://s3.example.com:8443",
            "https://s3.example.com/path",
            "https://s3.example.com.evil.net",
            "https://s3.eu-central-1.amazonaws.com",
            "http://s3.us-west-2.amazonaws.com",
            "https://s3.us-west-2.amazonaws.com:8443",
        ] {
            let refused = rules.check("team-a", &place(Some(endpoint)));
            assert!(matches!(refused, Err(Refused::Endpoint(_))), "{endpoint}: {refused:?}");
        }
    }

    #[test]
    fn a_dotted_region_does_not_reach_other_hosts() {
        let endpoint = "https://s3.x.compute.amazonaws.com";
        let place = ObjectLocation { region: "x.compute".into(), ..place(Some(endpoint)) };
        assert!(rules(&[], &[], None).check("team-a", &place).is_err());
    }

    #[test]
    fn a_wrong_endpoint_is_not_repeated() {
        for text in [
            "minio:9000/x",
            "ftp://host",
            "https://me:hunter2@host",
            "https://host/?token=hunter2",
            "hunter2",
        ] {
            let refused = rules(&[], &[], None).check("team-a", &place(Some(text))).expect_err(text);
            assert!(matches!(refused, Refused::BadEndpoint(_)), "{text}");
            assert!(!refused.to_string().contains("hunter2"), "{refused}");
        }
    }

    #[test]
    fn a_refusal_names_the_flag() {
        let refused =
            rules(&["team-b=modules"], &[], None).check("team-a", &place(None)).expect_err("refused");
        let message = refused.to_string();
        assert!(message.contains("--allow-storage team-a=modules"), "{message}");
        assert!(message.contains("s3://modules/team-a/vpc/a.zip"), "{message}");
    }

    proptest! {
        #[test]
        fn no_text_makes_parsing_panic(text in ".{0,40}") {
            let _ = text.parse::<StorageRule>();
            if let Ok(endpoint) = text.parse::<Endpoint>() {
                prop_assert_eq!(endpoint.as_str().parse::<Endpoint>(), Ok(endpoint.clone()));
            }
        }

        #[test]
        fn a_prefix_covers_only_what_lies_below(prefix in "[ab]{1,3}(/[ab]{1,3})?", key in "[ab]{1,3}(/[ab]{1,3}){0,3}") {
            let rules = rules(&[&format!("*=modules/{prefix}")], &[], None);
            let (prefix, key_segments): (Vec<_>, Vec<_>) = (prefix.split('/').collect(), key.split('/').collect());
            let below = key_segments.len() > prefix.len() && key_segments.starts_with(&prefix);
            prop_assert_eq!(rules.allows("team-a", "modules", &key), below);
        }
    }
}
