//! The dashboards as they look on a system that has worked: `hack/dashboards/render` evaluates each panel with a real Prometheus.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::monitoring::{DASHBOARDS, of_operator, of_registry};
use crate::support::root;

/// Ten minutes of samples, four a minute, as two jobs would be scraped: what counts grows, the rest stays.
fn history() -> String {
    let mut text = String::new();
    for (job, metrics) in [("opendepot", of_operator()), ("opendepot-registry", of_registry())] {
        let up = "up 1".to_owned();
        let samples = metrics.lines().filter(|line| !line.starts_with('#')).map(str::to_owned);
        for sample in samples.chain([up]) {
            let (series, value) = sample.rsplit_once(' ').unwrap();
            let (name, labels) = series.trim_end_matches('}').split_once('{').unwrap_or((series, ""));
            let comma = if labels.is_empty() { "" } else { "," };
            let grows = ["_total", "_bucket", "_count", "_sum"].iter().any(|end| name.ends_with(end));
            for turn in 0..41_u32 {
                let value = value.parse::<f64>().unwrap() * f64::from(if grows { turn } else { 1 });
                let at = 1_750_000_000 + 15 * turn;
                let job = format!("job=\"{job}\",instance=\"10.0.0.7:8080\"");
                writeln!(text, "{name}{{{labels}{comma}{job}}} {value} {at}").unwrap();
            }
        }
    }
    text + "# EOF\n"
}

fn render(folder: &Path, more: &[&str]) -> (Output, String) {
    std::fs::write(folder.join("samples"), history()).unwrap();
    let mut command = Command::new(root().join("hack/dashboards/render"));
    command.arg("--openmetrics").arg(folder.join("samples")).args(more);
    let output = command.output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    let printed = printed.into_owned();
    (output, printed)
}

#[test]
fn every_panel_has_data_or_says_why_not() {
    let folder = tempfile::tempdir().unwrap();
    let pictures = folder.path().to_str().unwrap();
    let (output, printed) = render(folder.path(), &["--pictures", pictures]);
    assert!(output.status.success(), "{printed}");
    // What such a system lacks.
    let empty = [
        "registry: Certificate expires in: No certificate",
        "registry: Archives that could not be read, per minute: No errors.",
        "registry: Modules that are not served: All Modules are served.",
        "operator: Versions that are not ready: All Versions are ready.",
        "operator: Modules that are not ready: All Modules are ready.",
    ];
    let panels: Vec<&str> = printed.lines().filter_map(|line| line.strip_prefix("OpenDepot: ")).collect();
    assert!(panels.len() >= 35, "{printed}");
    let without: Vec<&str> = panels.into_iter().filter(|line| !line.ends_with(" series")).collect();
    assert_eq!(without, empty, "{printed}");
    for path in DASHBOARDS {
        let name = Path::new(path).with_extension("png");
        let picture = std::fs::read(folder.path().join(name.file_name().unwrap())).unwrap();
        let size = |at: usize| u32::from_be_bytes(picture[at..at + 4].try_into().unwrap());
        assert!(size(16) > 1000 && size(20) > 1000 && picture.len() > 50_000, "{path}: {}", picture.len());
    }
}

#[test]
fn a_panel_that_is_of_no_use_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let mut dashboard: Value =
        serde_json::from_str(&std::fs::read_to_string(root().join(DASHBOARDS[0])).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array_mut().unwrap();
    let at = |panels: &[Value], title: &str| panels.iter().position(|p| p["title"] == title).unwrap();
    let mut change = |title: &str, pointer: &str, value: Value| {
        let at = at(panels, title);
        *panels[at].pointer_mut(pointer).unwrap() = value;
    };
    change("Leaders", "/description", json!(""));
    change("Traffic", "/fieldConfig/defaults/unit", json!("furlongs"));
    change("Queue", "/targets/0/legendFormat", json!("{{controler}}"));
    change("Panics", "/targets/0/expr", json!("sum(opendepot_panics_total{job=~\"$work\"})"));
    change("Resident memory", "/targets/0/expr", json!("process_resident_bytes{job=~\"$job\"}"));
    change("Versions ready", "/targets/0/expr", json!("opendepot_queue_depth{job=~\"$job\"}"));
    let path = folder.path().join("broken.json");
    std::fs::write(&path, dashboard.to_string()).unwrap();
    let (output, printed) = render(folder.path(), &[path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{printed}");
    let reported: Vec<&str> = printed.lines().filter_map(|line| line.strip_prefix("broken.json: ")).collect();
    let expected = [
        "Leaders: has no description",
        "Versions ready: shows ",
        "Panics: has a variable that is not defined",
        "Traffic: has the unit furlongs",
        "Queue: has a series without a name in the legend",
        "Resident memory: has no data",
    ];
    for words in expected {
        assert!(reported.iter().any(|line| line.starts_with(words)), "{words}: {printed}");
    }
}
