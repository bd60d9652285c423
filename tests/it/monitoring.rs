//! Alert rules and dashboard speak of metrics that there are, and each alert has its paragraph in the documents.

use std::collections::BTreeSet;
use std::time::Instant;

use opendepot::controller::failure::Reason;
use opendepot::observe::metrics::Metrics;
use serde_json::Value;

use crate::support::root;

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The metrics that a text of rules or panels names, without what a histogram or counter appends.
fn named(text: &str) -> BTreeSet<String> {
    let name = |c: char| c.is_ascii_lowercase() || c == '_';
    let words = text.split(|c: char| !name(c)).filter(|word| word.starts_with("opendepot_"));
    words.map(|word| word.trim_end_matches("_total").trim_end_matches("_bucket").to_owned()).collect()
}

#[test]
fn rules_and_dashboard_speak_of_metrics_that_there_are() {
    // One with labels shows only once it has a value.
    let metrics = Metrics::new(Reason::counted());
    metrics.reconciled("version", "settled", Instant::now());
    metrics.failed("version", Reason::TagNotFound.as_str());
    let counts = [(("ready", "Synced"), 1)];
    let text = metrics.scrape(&[("app", 5000)], &(counts.into(), counts.into())).unwrap();
    let there: BTreeSet<&str> =
        text.lines().filter_map(|l| l.strip_prefix("# HELP ")?.split(' ').next()).collect();
    for path in ["deploy/monitoring/alerts.yaml", "deploy/monitoring/dashboard.json"] {
        let named = named(&read(path));
        assert!(!named.is_empty(), "{path} names none");
        for metric in named {
            let metric = metric.trim_end_matches("_info");
            assert!(there.contains(metric), "{path} names {metric}, there are {there:?}");
        }
    }
}

#[test]
fn each_alert_has_a_paragraph_and_a_test() {
    let rules: Value = serde_yaml::from_str(&read("deploy/monitoring/alerts.yaml")).unwrap();
    let (documents, tests) = (read("docs/alerts.md"), read("deploy/monitoring/alerts-test.yaml"));
    let alerts: Vec<&str> = rules["groups"][0]["rules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| {
            let alert = rule["alert"].as_str().unwrap();
            assert!(documents.contains(&format!("\n## {alert}\n")), "docs/alerts.md says nothing of {alert}");
            assert!(tests.contains(&format!("alertname: {alert}\n")), "{alert} has no test");
            let link = rule["annotations"]["runbook_url"].as_str().unwrap();
            assert!(link.ends_with(&format!("/docs/alerts.md#{}", alert.to_lowercase())), "{link}");
            alert
        })
        .collect();
    let headings = documents.lines().filter_map(|line| line.strip_prefix("## "));
    assert_eq!(headings.collect::<Vec<_>>(), alerts, "one paragraph each, in the same order");
}
