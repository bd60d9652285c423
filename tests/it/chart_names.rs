//! Names in the chart: of values, of the image, and of objects.

use serde_json::{Value, json};

use crate::chart_values::registry;
use crate::support::rendered::{SYSTEM, chart, find, parse, release};

#[test]
fn names_of_other_charts_change_the_defaults_as_ours_do() {
    let both = [
        (json!({"replicaCount": 3}), json!({"replicas": 3})),
        (json!({"containerSecurityContext": {"runAsUser": 7}}), json!({"securityContext": {"runAsUser": 7}})),
        (
            registry(&json!({"updateStrategy": {"rollingUpdate": {"maxSurge": 2}}})),
            registry(&json!({"strategy": {"rollingUpdate": {"maxSurge": 2}}})),
        ),
    ];
    for (theirs, ours) in both {
        let (theirs, ours) = (chart(&theirs), chart(&ours));
        let deployments = |objects: &[Value]| {
            objects.iter().filter(|o| o["kind"] == "Deployment").cloned().collect::<Vec<_>>()
        };
        assert_eq!(deployments(&theirs), deployments(&ours));
        assert_ne!(deployments(&ours), deployments(&chart(&json!({}))));
    }
}

#[test]
fn the_image_comes_from_the_mirror() {
    let version = env!("CARGO_PKG_VERSION");
    for (image, global, expected) in [
        (json!({"registry": "mirror.example:5000"}), json!({}), "mirror.example:5000/opendepot/opendepot"),
        (
            json!({"repository": "registry.example.com/opendepot"}),
            json!({}),
            "registry.example.com/opendepot",
        ),
        (
            json!({"repository": "a/b", "registry": "mirror.example/proxy"}),
            json!({}),
            "mirror.example/proxy/a/b",
        ),
        (json!({}), json!({"imageRegistry": "global.example"}), "global.example/opendepot/opendepot"),
        (
            json!({"registry": "own.example"}),
            json!({"imageRegistry": "global.example"}),
            "own.example/opendepot/opendepot",
        ),
    ] {
        let mut values = registry(&json!({}));
        values["image"] = image;
        values["global"] = global;
        let objects = chart(&values);
        for name in ["opendepot", "opendepot-registry"] {
            let pod = &find(&objects, "Deployment", name)["spec"]["template"]["spec"];
            assert_eq!(pod["containers"][0]["image"], format!("{expected}:{version}"));
        }
    }
}

#[test]
fn long_names_of_releases_give_legal_names_of_services() {
    for (release_name, more) in [
        ("opendepot-of-the-platform-team-in-the-first-region-1", json!({})),
        (
            "9-of-the-platform-team-in-the-first-region-of-europe",
            json!({"nameOverride": "modules-of-terraform"}),
        ),
    ] {
        let mut values = registry(&json!({}));
        values.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let objects = parse(&release(release_name, SYSTEM, &[], &values).stdout);
        let services: Vec<_> = objects.iter().filter(|o| o["kind"] == "Service").collect();
        assert_eq!(services.len(), 3);
        for service in services {
            let name = service["metadata"]["name"].as_str().unwrap();
            assert!(name.len() <= 63 && name.starts_with(|c: char| c.is_ascii_lowercase()), "{name}");
        }
    }
}

#[test]
fn names_of_releases_may_have_dots() {
    for (name, expected) in [
        ("acme.prod", "acme-prod-opendepot"),
        ("1.acme", "opendepot-1-acme"),
        ("opendepot.prod", "opendepot-prod"),
        // What is left of a long name ends with its dot.
        ("the-platform-team-in-the-first-regi.on", "the-platform-team-in-the-first-regi-opendepot"),
        (
            "opendepot-of-the-platform-team-in-the-first-r.ion",
            "opendepot-of-the-platform-team-in-the-first-r",
        ),
    ] {
        let objects = parse(&release(name, SYSTEM, &[], &json!({})).stdout);
        let service = find(&objects, "Service", expected);
        for labels in [&service["metadata"]["labels"], &service["spec"]["selector"]] {
            assert_eq!(labels["app.kubernetes.io/instance"], name);
        }
    }
}
