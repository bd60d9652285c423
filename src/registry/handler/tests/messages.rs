//! What pages show of Modules and versions that are not served, and to whom.

use super::*;

/// A condition that is not True.
fn condition(type_: &str, reason: &str, message: &str) -> Value {
    json!({"conditions": [{"type": type_, "status": "False", "reason": reason, "message": message}]})
}

/// `platform/net/aws` lists one version of each kind; `platform/eks/azurerm` is held by another Module, and `platform/odd` has
/// no address.
fn registry() -> Registry {
    let registry = Registry::new();
    let all = ["1.0.0", "1.1.0", "1.2.0", "1.3.0", HUGE, "1.4.0"];
    let entries: Vec<Value> = all.iter().map(|version| json!({"version": version})).collect();
    let (net, mut versions) = module("net", "net", &json!(entries));
    versions[1]["status"] = condition("Ready", "TagNotFound", "no tag <1.1.0> in acme/net");
    versions[2]["status"] = json!({});
    versions[3]["status"]["storage"]["endpoint"] = json!("https://s3.acme.io");
    for version in &mut versions[3..] {
        version["status"]["conditions"] = json!([{"type": "Ready", "status": "True", "reason": "Synced"}]);
    }
    versions.truncate(5);
    registry.serve((net, versions));
    let (mut taken, versions) = module("second", "eks", &json!([{"version": "1.0.0"}]));
    taken["status"] = condition("Addressable", "AddressTaken", "Module eks has the address");
    taken["spec"]["moduleConfig"]["provider"] = json!("azurerm");
    registry.serve((taken, versions));
    let (mut odd, _) = module("odd", "odd", &json!([]));
    (odd["status"], odd["spec"]["moduleConfig"]["provider"]) = (json!({}), Value::Null);
    registry.serve((odd, Vec::new()));
    for name in ["net", "second", "odd"] {
        registry.server.permit("ann", "platform", name);
    }
    registry
}

/// A version that no client can parse.
const HUGE: &str = "9223372036854775808.0.0";
const NET: &str = "/modules/platform/net/aws/versions";
const TAKEN: &str = "/modules/platform/eks/azurerm";
const TAG: &str = "no tag &lt;1.1.0&gt; in acme/net";
const HELD: &str = "Module eks has the address";
const NO_PROVIDER: &str = "spec.moduleConfig.provider is missing";

#[tokio::test]
async fn messages_of_conditions_are_for_those_who_may_read_the_module() {
    let registry = registry();
    let page = async |path: &str| registry.get(path, &[ANN]).await.text();
    for (path, message, word) in
        [(NET, TAG, "TagNotFound"), (TAKEN, HELD, "address taken"), ("/", NO_PROVIDER, "not addressable")]
    {
        let text = page(path).await;
        assert!(text.contains(word) && !text.contains(message), "{path}: {text}");
    }
    // The right to another Module of the namespace shows nothing of this one.
    let registry = self::registry();
    registry.server.permit_read("ann", "platform", "second");
    registry.server.permit_read("bob", "platform", "*");
    let page = async |path: &str| registry.get(path, &[ANN]).await.text();
    assert!(page(TAKEN).await.contains(HELD));
    assert!(!page(NET).await.contains(TAG));
    let list = page("/").await;
    assert!(list.contains(HELD) && !list.contains(NO_PROVIDER), "{list}");
    // What is asked, and once.
    let reads = registry.server.0.lock().unwrap().accesses.clone();
    let reads: Vec<&String> = reads.iter().filter(|review| review.contains(" reads ")).collect();
    assert_eq!(
        reads,
        [
            "ann reads platform/second",
            "ann reads platform/net",
            "ann reads platform/",
            "ann reads platform/odd"
        ]
    );
    // Who may read but not install sees no page at all.
    assert_eq!(registry.get(TAKEN, &[BOB]).await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn each_version_that_is_missing_says_why() {
    let registry = registry();
    let text = registry.get(NET, &[ANN]).await.text();
    let row = |version: &str| {
        let start = text.find(&format!("<b>{version}</b>")).unwrap_or_else(|| panic!("no {version}: {text}"));
        text[start..].split("</li>").next().unwrap().to_owned()
    };
    for (version, words) in [
        ("1.4.0", ["not stored", "No Version was created for it yet"]),
        ("1.3.0", ["not served", "--s3-endpoint of this registry does not"]),
        (HUGE, ["not served", "no client can parse it"]),
        ("1.2.0", ["not stored", "It is being published."]),
        ("1.1.0", ["TagNotFound", "not stored"]),
    ] {
        assert!(words.iter().all(|word| row(version).contains(word)), "{version}: {}", row(version));
    }
    assert!(!row("1.0.0").contains("not s"), "{}", row("1.0.0"));
    let taken = registry.get(TAKEN, &[ANN]).await.text();
    assert!(taken.contains("not served") && taken.contains("It is stored"), "{taken}");
}

#[tokio::test]
async fn a_list_does_not_wait_long_for_reviews_and_a_message_for_none() {
    let registry = registry();
    for namespace in 0..40 {
        let (mut module, _) = module(&format!("m{namespace}"), "m", &json!([]));
        module["metadata"]["namespace"] = json!(format!("team-{namespace}"));
        registry.serve((module, Vec::new()));
    }
    // Sixteen of 85 reviews at a time: some rounds of each list.
    registry.server.set_delay(Duration::from_millis(250));
    let slow = registry.get("/", &[ANN]).await;
    assert_eq!((slow.status, slow.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "6"));
    assert!(slow.text().contains("the Kubernetes API does not answer"), "{}", slow.text());
    // What was answered meanwhile counts.
    let mut answers = 1;
    while registry.get("/v1/modules", &[ANN]).await.status == StatusCode::SERVICE_UNAVAILABLE {
        answers += 1;
        assert!(answers < 20);
    }
    assert_eq!(registry.get("/", &[ANN]).await.status, StatusCode::OK);
    // A page whose messages cannot be reviewed shows the reasons.
    assert_eq!(registry.get(NET, &[ANN]).await.status, StatusCode::OK);
    registry.server.set_away(true);
    let text = registry.get(TAKEN, &[ANN]).await.text();
    assert!(!text.contains(HELD), "{text}");
}
