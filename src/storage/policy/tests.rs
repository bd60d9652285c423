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

fn location(endpoint: Option<&str>) -> ObjectLocation {
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
        assert_eq!(rules.check("team-a", &location(endpoint)), Ok(()), "{endpoint:?}");
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
        let refused = rules.check("team-a", &location(Some(endpoint)));
        assert!(matches!(refused, Err(LocationNotAllowed::Endpoint(_))), "{endpoint}: {refused:?}");
    }
}

#[test]
fn a_dotted_region_does_not_reach_other_hosts() {
    let endpoint = "https://s3.x.compute.amazonaws.com";
    let location = ObjectLocation { region: "x.compute".into(), ..location(Some(endpoint)) };
    assert!(rules(&[], &[], None).check("team-a", &location).is_err());
}

#[test]
fn a_wrong_endpoint_is_not_repeated() {
    for text in
        ["minio:9000/x", "ftp://host", "https://me:hunter2@host", "https://host/?token=hunter2", "hunter2"]
    {
        let refused = rules(&[], &[], None).check("team-a", &location(Some(text))).expect_err(text);
        assert!(matches!(refused, LocationNotAllowed::BadEndpoint(_)), "{text}");
        assert!(!refused.to_string().contains("hunter2"), "{refused}");
    }
}

#[test]
fn a_refusal_names_the_flag() {
    let refused =
        rules(&["team-b=modules"], &[], None).check("team-a", &location(None)).expect_err("refused");
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
