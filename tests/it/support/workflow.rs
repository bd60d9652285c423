//! A GitHub Actions runner, as far as this repository's workflows and actions need one.
//!
//! In: a workflow's text, and what the event says. Out: whether the job succeeded, and all that its steps printed. `run:`
//! steps are run by bash as GitHub runs them, `${{ … }}` is replaced before that as text, local composite actions are
//! followed; steps that reach for a cloud are skipped by their names. Never kinder than the real one: what this runner
//! does not know, it refuses.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Map, Value, json};

use super::{World, root};

/// Steps that need a cloud, by name: their work is done for them by [`Runner::of`].
const CLOUD: [&str; 2] = ["Configure AWS credentials", "Setup kubeconfig"];

/// The step whose work the test does: it puts what the repository holds into the workspace.
const CHECKOUT: &str = "actions/checkout@";

/// This project's action, as others name it.
const ACTION: &str = "opendepot/opendepot/.github/actions/publish@v";

/// How a job ended.
#[derive(Debug)]
pub struct Outcome {
    /// Whether every step did.
    pub success: bool,
    /// What the steps printed.
    pub log: String,
    /// What they wrote for the run's page.
    pub summary: String,
}

/// A machine that runs jobs, with a workspace and rights of its own.
pub struct Runner {
    folder: tempfile::TempDir,
    path: String,
    kubeconfig: PathBuf,
}

impl Runner {
    /// One without a cluster.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["workspace", "temp", "home"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        Self { folder, path: std::env::var("PATH").unwrap(), kubeconfig: PathBuf::new() }
    }

    /// One with the rights of a service account in the namespace of this test.
    pub async fn of(world: &World, service_account: &str) -> Self {
        let kubernetes = &world.bed.kubernetes;
        let kubectl = kubernetes.kubectl_path().parent().unwrap();
        let runner = Self::new();
        Self {
            path: format!("{}:{}", kubectl.display(), runner.path),
            kubeconfig: kubernetes
                .kubeconfig_for_service_account(&world.name, service_account)
                .await
                .unwrap(),
            ..runner
        }
    }

    /// Where the job's repository is checked out.
    pub fn workspace(&self) -> PathBuf {
        self.folder.path().join("workspace")
    }

    /// Runs the one job of a workflow, or the one of this name, for an event.
    pub fn run(&self, workflow: &str, job: Option<&str>, event: &Value) -> Outcome {
        let workflow: Value = serde_yaml::from_str(workflow).unwrap();
        let jobs = workflow["jobs"].as_object().unwrap();
        let job = match job {
            Some(name) => &jobs[name],
            None => jobs.values().next().unwrap(),
        };
        let context = json!({"github": {"event": event, "ref_name": event["ref_name"]}});
        let env = [&workflow["env"], &job["env"]];
        let mut state = State::default();
        let context = self.steps(&job["steps"], context, &env, &mut state);
        assert!(context["steps"].is_object());
        Outcome { success: !state.failed, log: state.log, summary: state.summary }
    }

    /// Runs steps one after another; gives the context with what they put out.
    fn steps(&self, steps: &Value, mut context: Value, env: &[&Value], state: &mut State) -> Value {
        context["steps"] = json!({});
        for step in steps.as_array().unwrap() {
            if !holds(step["if"].as_str().unwrap_or("success()"), &context, state.failed) {
                continue;
            }
            let (worked, outputs) = self.step(step, &context, env, state);
            if let Some(id) = step["id"].as_str() {
                let outcome = if worked { "success" } else { "failure" };
                context["steps"][id] = json!({"outcome": outcome, "outputs": outputs});
            }
            state.failed |= !worked;
        }
        context
    }

    fn step(&self, step: &Value, context: &Value, env: &[&Value], state: &mut State) -> (bool, Value) {
        let env: Vec<&Value> = env.iter().copied().chain([&step["env"]]).collect();
        if step["name"].as_str().is_some_and(|name| CLOUD.contains(&name)) {
            return (true, json!({}));
        }
        if let Some(action) = step["uses"].as_str() {
            if action.starts_with(CHECKOUT) {
                return (true, json!({}));
            }
            assert!(action.starts_with(ACTION), "{action} is neither known nor skipped");
            return self.action(&root().join(".github/actions/publish"), &step["with"], context, state);
        }
        let temp = self.folder.path().join("temp");
        let file = |name: &str| {
            let path = temp.join(format!("{name}-{}", uuid::Uuid::new_v4()));
            fs::write(&path, "").unwrap();
            path
        };
        let (script, output, summary) = (file("script"), file("output"), file("summary"));
        fs::write(&script, substitute(step["run"].as_str().unwrap(), context)).unwrap();
        let mut command = Command::new("bash");
        match step["shell"].as_str() {
            None => command.arg("-e"),
            Some("bash") => command.args(["--noprofile", "--norc", "-eo", "pipefail"]),
            Some(other) => panic!("no shell {other}"),
        };
        command.arg(&script).current_dir(self.workspace()).env_clear();
        command.env("PATH", &self.path).env("HOME", self.folder.path().join("home"));
        command.env("KUBECONFIG", &self.kubeconfig).env("RUNNER_TEMP", &temp).env("GITHUB_ACTIONS", "true");
        command.env("GITHUB_WORKSPACE", self.workspace()).env("GITHUB_RUN_ID", "1");
        command.env("GITHUB_OUTPUT", &output).env("GITHUB_STEP_SUMMARY", &summary);
        if let Some(path) = context["github"]["action_path"].as_str() {
            command.env("GITHUB_ACTION_PATH", path);
        }
        for (name, value) in env.iter().filter_map(|env| env.as_object()).flatten() {
            command.env(name, substitute(value.as_str().unwrap(), context));
        }
        let done = command.output().unwrap();
        state.log.push_str(&String::from_utf8_lossy(&done.stdout));
        state.log.push_str(&String::from_utf8_lossy(&done.stderr));
        state.summary.push_str(&fs::read_to_string(summary).unwrap());
        let outputs = fs::read_to_string(output).unwrap();
        let outputs = outputs.lines().map(|line| line.split_once('=').unwrap());
        (done.status.success(), outputs.map(|(name, value)| (name.to_owned(), json!(value))).collect())
    }

    fn action(&self, folder: &Path, with: &Value, context: &Value, state: &mut State) -> (bool, Value) {
        let action: Value =
            serde_yaml::from_str(&fs::read_to_string(folder.join("action.yml")).unwrap()).unwrap();
        let known = action["inputs"].as_object().unwrap();
        let mut inputs = Map::new();
        for (name, given) in with.as_object().unwrap() {
            assert!(known.contains_key(name), "the action has no input {name}");
            inputs.insert(name.clone(), json!(substitute(given.as_str().unwrap(), context)));
        }
        for (name, input) in known.iter().filter(|(name, _)| !with[name.as_str()].is_string()) {
            assert_eq!(input["required"], false, "the input {name} is required");
            inputs.insert(name.clone(), input["default"].clone());
        }
        let inner = json!({"inputs": inputs, "github": {"action_path": folder}});
        let inner = self.steps(&action["runs"]["steps"], inner, &[], state);
        let worked = !state.failed;
        let outputs = action["outputs"].as_object().unwrap().iter();
        let value = |output: &Value| json!(substitute(output["value"].as_str().unwrap(), &inner));
        (worked, outputs.map(|(name, output)| (name.clone(), value(output))).collect())
    }
}

/// What a job has come to so far.
#[derive(Default)]
struct State {
    failed: bool,
    log: String,
    summary: String,
}

/// Replaces each `${{ … }}` by what the context has there; by nothing, where that has nothing.
fn substitute(text: &str, context: &Value) -> String {
    let mut done = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${{") {
        let (expression, after) = after.split_once("}}").expect("an expression ends");
        done.push_str(before);
        done.push_str(lookup(expression.trim(), context));
        rest = after;
    }
    done + rest
}

fn lookup<'a>(path: &str, context: &'a Value) -> &'a str {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    assert!(path.chars().all(plain), "this runner knows no functions: {path}");
    path.split('.').fold(context, |value, key| &value[key]).as_str().unwrap_or_default()
}

/// Whether an `if:` holds. Without a status function it asks for `success()` too.
fn holds(condition: &str, context: &Value, failed: bool) -> bool {
    let terms: Vec<&str> = condition.split("&&").map(str::trim).collect();
    let asks_for_status = terms.iter().any(|term| ["success()", "failure()", "always()"].contains(term));
    let term = |term: &&str| match *term {
        "success()" => !failed,
        "failure()" => failed,
        "always()" => true,
        comparison => {
            let (left, right) = comparison.split_once(" == ").expect("a comparison");
            lookup(left, context) == right.trim_matches('\'')
        }
    };
    (asks_for_status || !failed) && terms.iter().all(term)
}
