//! Alert rules and dashboard speak of metrics that there are, and each alert has its paragraph in the documents.
//! The metrics of the process agree with what the kernel says of it.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use opendepot::controller::failure::Reason;
use opendepot::domain::Address;
use opendepot::observe::metrics::Metrics;
use opendepot::registry::metrics::RegistryMetrics;
use opendepot_testbed::operator::Operator;
use opendepot_testbed::port::free_port;
use opendepot_testbed::process::{Folder, Process, Spec};
use opendepot_testbed::servers::{Server, binaries};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{World, root, soon};

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The metrics that a text of rules or panels names, without what a histogram or counter appends.
fn named(text: &str) -> BTreeSet<String> {
    let name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let ours = |word: &&str| word.starts_with("opendepot_") || word.starts_with("process_");
    let words = text.split(|c: char| !name(c)).filter(ours);
    words.map(|word| word.trim_end_matches("_total").trim_end_matches("_bucket").to_owned()).collect()
}

const FILES: [&str; 3] = ["deploy/monitoring/alerts.yaml", DASHBOARDS[0], DASHBOARDS[1]];
/// For operator and registry.
pub(crate) const DASHBOARDS: [&str; 2] =
    ["deploy/monitoring/dashboard.json", "deploy/monitoring/dashboard-registry.json"];

/// The metrics of a registry that has served something.
pub(crate) fn of_registry() -> String {
    let metrics = RegistryMetrics::default();
    metrics.answered("versions", 200, Duration::from_millis(1));
    metrics.downloaded("terraform");
    metrics.module_downloaded(&Address {
        namespace: "platform".into(),
        name: "eks".into(),
        system: "aws".into(),
    });
    metrics.identified("kubernetes", "accepted");
    metrics.reviewed("token", "accepted");
    metrics.sample(&[("served", 1)].into(), Duration::ZERO, true, |_| true);
    metrics.text().unwrap()
}

/// The metrics of an operator that has worked: one with labels shows only once it has a value.
pub(crate) fn of_operator() -> String {
    let metrics = Metrics::new(Reason::counted());
    metrics.reconciled("version", "settled", Instant::now());
    metrics.failed("version", Reason::TagNotFound.as_str());
    let counts = [(("ready", "Synced"), 1)];
    metrics.scrape(&[("app", 5000)], &(counts.into(), counts.into())).unwrap()
}

/// The names in what `/metrics` answers, without what a counter appends.
fn names(text: &str) -> BTreeSet<&str> {
    text.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next()).collect()
}

/// The queries of all panels.
fn queries(part: &Value) -> Vec<String> {
    let own = part["expr"].as_str().map(str::to_owned);
    let below: Vec<&Value> = match part {
        Value::Object(fields) => fields.values().collect(),
        Value::Array(parts) => parts.iter().collect(),
        _ => Vec::new(),
    };
    own.into_iter().chain(below.into_iter().flat_map(queries)).collect()
}

#[test]
fn prometheus_reads_the_query_of_each_panel() {
    let dashboards = DASHBOARDS.map(|path| serde_json::from_str::<Value>(&read(path)).unwrap());
    let queries = dashboards.iter().flat_map(queries).collect::<Vec<_>>();
    assert!(queries.len() > 30, "{}", queries.len());
    // Rules are what promtool checks. Grafana replaces the intervals before Prometheus reads a query.
    let rule = |(number, query): (usize, &String)| json!({"record": format!("panel:{number}"), "expr": query.replace("$__rate_interval", "5m").replace("$__range", "1h")});
    let rules: Vec<Value> = queries.iter().enumerate().map(rule).collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    let groups = json!({"groups": [{"name": "panels", "rules": rules}]});
    std::fs::write(file.path(), groups.to_string()).unwrap();
    let output = Command::new(root().join("hack/promtool"))
        .args(["check", "rules"])
        .arg(file.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

#[test]
fn rules_and_dashboard_speak_of_metrics_that_there_are() {
    let text = of_operator() + &of_registry();
    let there = names(&text);
    for path in FILES {
        let named = named(&read(path));
        assert!(!named.is_empty(), "{path} names none");
        for metric in named {
            let metric = metric.trim_end_matches("_info");
            assert!(there.contains(metric), "{path} names {metric}, there are {there:?}");
        }
    }
}

/// The words of code in a text.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn the_page_for_operations_lists_every_metric_with_its_labels() {
    let text = of_operator() + &of_registry();
    let page = read("docs/operations.md");
    let mut listed = BTreeSet::new();
    let rows =
        page.lines().filter(|line| line.starts_with("| `opendepot_") || line.starts_with("| `process_"));
    for row in rows {
        let cells: Vec<&str> = row.split(" |").collect();
        for metric in code(cells[0]) {
            let name = metric.trim_end_matches("_total").trim_end_matches("_info");
            listed.insert(name);
            let series = text.lines().find(|line| {
                line.starts_with(&format!("{metric}{{")) || line.starts_with(&format!("{name}_bucket{{"))
            });
            let Some((_, labels)) = series.and_then(|line| line.split_once('{')) else { continue };
            let labels = labels.split('}').next().unwrap().split(',').map(|l| l.split('=').next().unwrap());
            // Values of a label are in parentheses.
            let said: String = cells[1].split('(').map(|part| part.rsplit(')').next().unwrap()).collect();
            let said: BTreeSet<&str> = code(&said).collect();
            assert_eq!(labels.filter(|label| *label != "le").collect::<BTreeSet<_>>(), said, "{metric}");
        }
    }
    assert_eq!(listed, names(&text), "docs/operations.md, and what there is");
}

#[test]
fn each_alert_has_a_paragraph_and_a_test() {
    let rules: Value = serde_yaml::from_str(&read("deploy/monitoring/alerts.yaml")).unwrap();
    let (documents, tests) = (read("docs/alerts.md"), read("deploy/monitoring/alerts-test.yaml"));
    let groups = rules["groups"].as_array().unwrap();
    let alerts: Vec<&str> = groups
        .iter()
        .flat_map(|group| group["rules"].as_array().unwrap())
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

/// Metric, label and value of each selector of the registry's metrics in a text of rules or panels.
fn selectors(text: &str) -> Vec<(String, String, String)> {
    let text = text.replace("\\\"", "\"");
    let mut found = Vec::new();
    for part in text.split("opendepot_registry_").skip(1) {
        let Some((metric, rest)) = part.split_once('{').filter(|(name, _)| !name.contains([' ', ')', '[']))
        else {
            continue;
        };
        for selector in rest.split('}').next().unwrap().split(',') {
            let (label, value) =
                selector.split_once(['=', '!']).unwrap_or_else(|| panic!("{metric}: {selector}"));
            let value = value.trim_start_matches(['=', '~']).trim_matches('"');
            found.push((format!("opendepot_registry_{metric}"), label.trim().to_owned(), value.to_owned()));
        }
    }
    found
}

#[test]
fn the_registry_counts_under_the_labels_that_rules_select() {
    let (text, mut found) = (of_registry(), 0);
    let mut sources = String::new();
    let mut folders = vec![root().join("src/registry")];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else {
                sources += &std::fs::read_to_string(path).unwrap();
            }
        }
    }
    for path in FILES {
        for (metric, label, value) in
            selectors(&read(path)).into_iter().filter(|(_, label, _)| label != "job")
        {
            let series = format!("{metric}{{");
            let mut lines = text.lines().filter(|line| line.starts_with(&series));
            assert!(
                lines.any(|line| line.contains(&format!("{label}=\""))),
                "{path}: {metric} has no label {label}"
            );
            for value in value.split('|').filter(|_| label != "code") {
                assert!(
                    sources.contains(&format!("\"{value}\"")),
                    "{path}: {metric} has no {label} {value:?}"
                );
            }
            found += 1;
        }
    }
    assert!(found >= 7, "{found}");
}

/// Fails if a running registry that has served something lacks a metric of a rule or panel.
pub(crate) fn has_the_metrics_of_the_registrys_rules(text: &str) {
    let there = |name: &String| {
        let series = |line: &str| {
            let rest = line.strip_prefix(name.as_str()).unwrap_or("x");
            ["", "_total", "_bucket"]
                .iter()
                .any(|end| rest.strip_prefix(end).is_some_and(|r| r.starts_with(['{', ' '])))
        };
        text.lines().any(series)
    };
    let names: BTreeSet<String> = FILES.iter().flat_map(|path| named(&read(path))).collect();
    let of_registry: Vec<_> = names.iter().filter(|name| name.starts_with("opendepot_registry_")).collect();
    assert!(of_registry.len() >= 14, "{of_registry:?}");
    let missing: Vec<_> = of_registry.into_iter().filter(|name| !there(name)).collect();
    assert!(missing.is_empty(), "{missing:?} in\n{text}");
}

/// Processor time of a process in seconds, as the kernel counts it.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields = stat.rsplit_once(')').unwrap().1.split_whitespace().skip(11).take(2);
    fields.map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() / 100.0
}

/// Fails if the metrics of a server's process differ from what the kernel says of it from outside.
pub(crate) async fn measures_itself(server: &Operator) {
    let before = cpu_seconds(server.pid());
    let text = server.metrics().await.unwrap();
    let after = cpu_seconds(server.pid());
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse::<f64>().unwrap()
    };
    let cpu = value("process_cpu_seconds_total");
    assert!(before > 0.0 && before <= cpu && cpu <= after, "{before} {cpu} {after}");
    let (resident, measured) = (value("process_resident_memory_bytes"), server.memory().unwrap().resident);
    let ratio = resident / f64::from(u32::try_from(measured).unwrap());
    assert!((0.5..2.0).contains(&ratio), "{resident} bytes, and {measured} from outside");
    let files = std::fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap().count();
    let open = value("process_open_fds");
    // The connection of the scrape is one more, and others come and go.
    assert!(
        (open - f64::from(u32::try_from(files).unwrap())).abs() <= 10.0,
        "{open}, and {files} from outside"
    );
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.pid())).unwrap();
    let limit = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    assert_eq!(Some(value("process_max_fds")), limit.split_whitespace().next().unwrap().parse().ok());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let age = now - value("process_start_time_seconds");
    // The kernel rounds the time of its boot to seconds.
    assert!((-2.0..1800.0).contains(&age), "started {age} s ago");
}

/// What kube-state-metrics serves.
async fn scraped(address: &str) -> anyhow::Result<String> {
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    stream.write_all(format!("GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    anyhow::ensure!(answer.starts_with("HTTP/1.0 200"), "{answer}");
    Ok(answer)
}

#[tokio::test]
async fn kube_state_metrics_shows_each_module_and_version() {
    let config = "deploy/monitoring/kube-state-metrics.yaml";
    let [binary] =
        tokio::task::spawn_blocking(|| binaries([Server::KubeStateMetrics])).await.unwrap().unwrap();
    let world = World::new("state-metrics").await;
    world.released("net");
    let _operator = world.operator().await;
    world.apply(&world.module("net").versions(&["1.0.0"]));
    let version = world.version_ready("net-1.0.0").await;
    world.module_ready("net").await;
    let [port, telemetry] = [(); 2].map(|()| free_port().unwrap().to_string());
    let folder = Folder::new("kube-state-metrics").unwrap();
    let spec = Spec::new(binary, folder.path().join("log"))
        .args(["--kubeconfig".into(), world.bed.kubernetes.admin_kubeconfig()])
        .args(["--custom-resource-state-config-file".into(), root().join(config)])
        .args(["--custom-resource-state-only=true", "--namespaces", &world.name])
        .args([
            "--host",
            "127.0.0.1",
            "--port",
            &port,
            "--telemetry-host",
            "127.0.0.1",
            "--telemetry-port",
            &telemetry,
        ]);
    let process = Process::spawn(&spec).unwrap();
    let address = format!("127.0.0.1:{port}");
    // Whether a series has all these labels and this value.
    let has = |text: &str, series: &str, labels: &[&str], value: &str| {
        let own = format!("exported_namespace=\"{}\"", world.name);
        let mut lines =
            text.lines().filter(|line| line.starts_with(&format!("{series}{{")) && line.contains(&own));
        lines.any(|line| {
            labels.iter().all(|label| line.contains(label)) && line.ends_with(&format!(" {value}"))
        })
    };
    let shown = |series: &'static str, labels: Vec<String>, value: String| {
        let (has, address, process) = (&has, &address, &process);
        soon(move || {
            let (labels, value) = (labels.clone(), value.clone());
            async move {
                let text = scraped(address).await.map_err(|error| error.context(process.log()))?;
                let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
                anyhow::ensure!(
                    has(&text, series, &labels, &value),
                    "no {series} {labels:?} {value} in\n{text}"
                );
                Ok(text)
            }
        })
    };
    let label = |name: &str, value: &str| format!("{name}=\"{value}\"");
    let ready = vec![label("type", "Ready"), label("reason", "Synced")];
    shown("opendepot_module_status_condition", ready.clone(), "1".into()).await;
    let text = shown("opendepot_version_status_condition", ready, "1".into()).await;

    let (status, one) = (&version["status"], "1");
    let key = label("key", status["storage"]["key"].as_str().unwrap());
    assert!(
        has(
            &text,
            "opendepot_version_info",
            &[&key, &label("module", "net"), &label("version", "1.0.0")],
            one
        ),
        "{text}"
    );
    let latest = [label("provider", "aws"), label("latest_version", "1.0.0")];
    assert!(has(&text, "opendepot_module_info", &[&latest[0], &latest[1]], one), "{text}");
    for (count, value) in [("desired", one), ("synced", one), ("failed", "0"), ("pruned", "0")] {
        assert!(has(&text, &format!("opendepot_module_versions_{count}"), &[], value), "{count} in\n{text}");
    }
    // Every metric of the file has a series: no path leads to nothing.
    let config: Value = serde_yaml::from_str(&read(config)).unwrap();
    for resource in config["spec"]["resources"].as_array().unwrap() {
        for metric in resource["metrics"].as_array().unwrap() {
            let (prefix, name) =
                (resource["metricNamePrefix"].as_str().unwrap(), metric["name"].as_str().unwrap());
            assert!(text.contains(&format!("\n{prefix}_{name}{{")), "{prefix}_{name} in\n{text}");
        }
    }
    world.patch("module/net", &json!({"spec": {"suspend": true}}));
    shown("opendepot_module_suspended", Vec::new(), one.into()).await;
    let suspended = vec![label("type", "Ready"), label("reason", "Suspended")];
    shown("opendepot_module_status_condition", suspended, "0".into()).await;
}
