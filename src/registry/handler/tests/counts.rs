//! Metrics and the access log.

use futures::FutureExt as _;
use tracing::subscriber::DefaultGuard;

use super::*;

fn counted(metrics: &RegistryMetrics) -> Vec<String> {
    let text = metrics.text().unwrap();
    let names = [
        "opendepot_registry_requests_",
        "opendepot_registry_downloads_",
        "opendepot_registry_module_downloads_",
    ];
    let is_counter = |line: &&str| names.iter().any(|name| line.starts_with(name));
    let mut lines: Vec<String> = text.lines().filter(is_counter).map(str::to_owned).collect();
    lines.sort();
    lines
}

fn of_requests(endpoint: &str, code: u16) -> String {
    format!("opendepot_registry_requests_total{{endpoint=\"{endpoint}\",code=\"{code}\"}} 1")
}

#[tokio::test]
async fn requests_and_downloads_are_counted() {
    let registry = Registry::new();
    let download = format!("{ADDRESS}/1.0.0/download");
    let client = ("user-agent", "OpenTofu/1.12.6");
    registry.get(&download, &[ANN, client]).await;
    registry.get(&download, &[BOB, client]).await;
    registry.get(&format!("{ADDRESS}/1.3.0/download"), &[ANN, client]).await;
    registry.get("/none", &[]).await;
    registry.service.unhandled(StatusCode::BAD_REQUEST);
    registry.service.unhandled(StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(
        counted(&registry.service.metrics),
        [
            "opendepot_registry_downloads_total{client=\"opentofu\"} 1".to_owned(),
            "opendepot_registry_module_downloads_total{namespace=\"platform\",module=\"eks\",system=\"aws\"} 1".to_owned(),
            of_requests("download", 204),
            of_requests("download", 403),
            of_requests("download", 410),
            of_requests("other", 400),
            of_requests("other", 404),
            of_requests("other", 500),
        ]
    );
    let without = Registry::new();
    let without = Registry { service: Service { module_metrics: false, ..without.service }, ..without };
    without.get(&download, &[ANN]).await;
    assert!(!counted(&without.service.metrics).iter().any(|line| line.contains("module_downloads")));
}

/// Collects what is logged on this thread.
#[derive(Clone, Default)]
struct Log(Arc<std::sync::Mutex<Vec<u8>>>);

impl Log {
    /// Collects until the guard is dropped.
    fn start() -> (Self, DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_words_of_a_search_are_no_refusal_in_the_log() {
    let (log, _guard) = Log::start();
    let registry = Registry::new();
    registry.get("/?q=vpc+endpoint", &[BOB]).await;
    assert!(!log.text().contains("refused; to permit it"), "{}", log.text());
    registry.get(&format!("{ADDRESS}/versions"), &[BOB]).await;
    assert!(log.text().contains("refused; to permit it"), "{}", log.text());
}

#[tokio::test]
async fn each_download_and_each_archive_is_a_line_without_secrets() {
    let (log, _guard) = Log::start();
    let registry = Registry::new();
    let agent = format!("OpenTofu/{}", "9".repeat(500));
    registry.get(&format!("{ADDRESS}/1.0.0/download"), &[BOB, ("user-agent", &agent)]).await;
    registry.get(&format!("/v1/modules/{0}/{0}/{0}/1.0.0/download", "a".repeat(64)), &[]).await;
    let terraform = [("user-agent", "Terraform/1.11.4"), ("x-terraform-version", "1.11.4")];
    let located = registry
        .get(&format!("{ADDRESS}/1.0.0/download?token=secret"), &[ANN, terraform[0], terraform[1]])
        .await;
    let location =
        located.header("x-terraform-get").strip_prefix("https://registry.acme.io").unwrap().to_owned();
    registry.get(&location, &[]).await;
    registry.get(&location.replace("/eks-1.0.0", "/x"), &[]).await;
    let text = log.text();
    let lines: Vec<Value> =
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["fields"].clone()).collect();
    let of = |message: &str| lines.iter().filter(|line| line["message"] == message).collect::<Vec<_>>();
    let downloads = of("download");
    let summary = |line: &&Value| {
        (
            line["user"].as_str().unwrap().to_owned(),
            line["status"].as_u64().unwrap(),
            line["client"].as_str().unwrap().to_owned(),
        )
    };
    assert_eq!(
        downloads.iter().map(summary).collect::<Vec<_>>(),
        [
            ("bob".into(), 403, "opentofu".into()),
            ("-".into(), 401, "other".into()),
            ("ann".into(), 204, "terraform".into())
        ]
    );
    assert_eq!(downloads[0]["client_version"].as_str().unwrap().chars().count(), 128);
    assert_eq!(downloads[1]["module"].as_str().unwrap().len(), 128);
    let last = downloads[2];
    assert_eq!(
        (&last["module"], &last["version"], &last["client_version"]),
        (&json!("platform/eks/aws"), &json!("1.0.0"), &json!("1.11.4"))
    );
    assert!(last["milliseconds"].is_u64());
    let archives: Vec<_> =
        of("archive").iter().map(|line| (line["status"].as_u64().unwrap(), line["mode"].clone())).collect();
    assert_eq!(archives, [(302, json!("redirect")), (403, json!("memory"))]);
    for secret in ["user-ann", "user-bob", "token=secret", "/archive/", "Signature", "checksum=", &location] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

#[tokio::test]
async fn a_refused_identity_is_a_line_with_what_to_bind() {
    let (log, _guard) = Log::start();
    let registry = Registry::new();
    for path in ["acme/eks/aws/versions", "platform/eks/aws/versions", "platform/eks/aws/1.0.0/download"] {
        for headers in [&[BOB][..], &[ANN], &[], &[("authorization", "Bearer wrong")]] {
            registry.get(&format!("/v1/modules/{path}"), headers).await;
        }
    }
    let text = log.text();
    let lines: Vec<Value> =
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["fields"].clone()).collect();
    let is_refusal = |line: &&Value| line["message"].as_str().unwrap().starts_with("refused;");
    let [line] = lines.iter().filter(is_refusal).collect::<Vec<_>>()[..] else { panic!("{text}") };
    let fields = ["user", "groups", "namespace", "module"].map(|name| line[name].as_str().unwrap());
    assert_eq!(fields, ["bob", "system:authenticated", "platform", "platform/eks/aws"]);
    assert!(!text.contains("user-bob"), "{text}");
}

#[tokio::test]
async fn a_client_that_leaves_before_its_answer_is_logged_and_counted() {
    let (log, _guard) = Log::start();
    let registry = Registry::new();
    let forged = registry.link("1.0.0").await.replace("/eks-1.0.0", "/x");
    let waiting = registry.get(&forged, &[]).now_or_never();
    assert!(waiting.is_none());
    let text = log.text();
    assert!(
        text.lines().any(|line| line.contains("\"archive\"") && line.contains("\"status\":499")),
        "{text}"
    );
    assert!(counted(&registry.service.metrics).contains(&of_requests("archive", 499)));

    // A version that no replica has yet is waited for.
    assert!(registry.get(&format!("{ADDRESS}/9.0.0/download"), &[ANN]).now_or_never().is_none());
    let text = log.text();
    let left = |line: &str| line.contains("\"download\"") && line.contains("\"status\":499");
    assert_eq!(text.lines().filter(|line| left(line)).count(), 1, "{text}");
    assert!(registry.get(&format!("{ADDRESS}/9.0.0"), &[ANN]).now_or_never().is_none());
    let counted = counted(&registry.service.metrics);
    for endpoint in ["archive", "download", "module"] {
        assert!(counted.contains(&of_requests(endpoint, 499)), "{endpoint}: {counted:?}");
    }
}
