//! A GitHub Actions runner, as far as a repository's own workflows and actions need one.
//!
//! In: a workflow's text, and what the event says. Out: whether the job succeeded, and all that its steps printed. `run:`
//! steps are run by bash as GitHub runs them, `${{ … }}` is replaced before that as text, local composite actions are
//! followed, and steps that need a cloud are skipped by their names. Never more lenient than GitHub: whatever this runner
//! does not support is an error.

mod expressions;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Map, Value, json};

use self::expressions::{holds, substitute};
use crate::control_plane::SHORT_RUN;
use crate::programs::program;

/// The step whose work the test does: it puts what the repository contains into the workspace.
const CHECKOUT: &str = "actions/checkout@";

/// How a job ended.
#[derive(Debug)]
pub struct JobOutcome {
    /// Whether every step succeeded.
    pub success: bool,
    /// What the steps printed.
    pub log: String,
    /// What they wrote to the run's summary page.
    pub summary: String,
    /// The variables that they set for later steps.
    pub env: Vec<(String, String)>,
}

/// A machine that runs jobs, with a workspace and credentials of its own.
pub struct Runner {
    folder: tempfile::TempDir,
    path: OsString,
    kubeconfig: PathBuf,
    skipped: &'static [&'static str],
    actions: Vec<(String, PathBuf)>,
    env: Vec<(String, OsString)>,
}

impl Runner {
    /// One without a cluster, which knows no action and skips no step.
    pub fn new() -> Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a folder for the runner")?;
        for name in ["workspace", "temp", "home"] {
            fs::create_dir(folder.path().join(name))?;
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        Ok(Self {
            folder,
            path,
            kubeconfig: PathBuf::new(),
            skipped: &[],
            actions: Vec::new(),
            env: Vec::new(),
        })
    }

    /// With this kubectl, which uses this kubeconfig.
    pub fn with_cluster(mut self, kubectl: &Path, kubeconfig: PathBuf) -> Result<Self> {
        let folder = kubectl.parent().context("a program is in a folder")?.to_owned();
        self.path = std::env::join_paths([folder].into_iter().chain(std::env::split_paths(&self.path)))?;
        self.kubeconfig = kubeconfig;
        Ok(self)
    }

    /// Steps that need a cloud, by name: what they do has been done already.
    #[must_use]
    pub fn skipping(mut self, steps: &'static [&'static str]) -> Self {
        self.skipped = steps;
        self
    }

    /// A composite action in this folder, which workflows use by names that begin with `prefix`.
    #[must_use]
    pub fn with_action(mut self, prefix: &str, folder: PathBuf) -> Self {
        self.actions.push((prefix.to_owned(), folder));
        self
    }

    /// One more variable that the machine itself sets.
    #[must_use]
    pub fn with_env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// Where the job's repository is checked out.
    pub fn workspace(&self) -> PathBuf {
        self.folder.path().join("workspace")
    }

    /// Runs the first job of a workflow, or the one of this name, for an event.
    pub fn run(&self, workflow: &str, job: Option<&str>, event: &Value) -> Result<JobOutcome> {
        let workflow: Value = yaml(workflow)?;
        let jobs = workflow["jobs"].as_object().context("a workflow has jobs")?;
        let job = match job {
            Some(name) => jobs.get(name).with_context(|| format!("there is no job {name}"))?,
            None => jobs.values().next().context("a workflow has a job")?,
        };
        let context = json!({"github": {"event": event, "ref_name": event["ref_name"]}});
        let env = [&workflow["env"], &job["env"]];
        let mut state = State::default();
        self.steps(&job["steps"], context, &env, &mut state)?;
        Ok(JobOutcome { success: !state.failed, log: state.log, summary: state.summary, env: state.env })
    }

    /// Runs steps one after another; returns the context with their outputs.
    fn steps(&self, steps: &Value, mut context: Value, env: &[&Value], state: &mut State) -> Result<Value> {
        context["steps"] = json!({});
        for step in steps.as_array().context("a job has steps")? {
            if !holds(step["if"].as_str().unwrap_or("success()"), &context, state.failed)? {
                continue;
            }
            let (worked, outputs) = self.step(step, &context, env, state)?;
            if let Some(id) = step["id"].as_str() {
                let outcome = if worked { "success" } else { "failure" };
                context["steps"][id] = json!({"outcome": outcome, "outputs": outputs});
            }
            state.failed |= !worked;
        }
        Ok(context)
    }

    fn step(
        &self,
        step: &Value,
        context: &Value,
        env: &[&Value],
        state: &mut State,
    ) -> Result<(bool, Value)> {
        if step["name"].as_str().is_some_and(|name| self.skipped.contains(&name)) {
            return Ok((true, json!({})));
        }
        match step["uses"].as_str() {
            Some(action) if action.starts_with(CHECKOUT) => Ok((true, json!({}))),
            Some(action) => {
                let known = self.actions.iter().find(|(prefix, _)| action.starts_with(prefix));
                let (_, folder) = known.with_context(|| format!("{action} is neither known nor skipped"))?;
                self.action(folder, &step["with"], context, state)
            }
            None => self.script(step, context, env, state),
        }
    }

    fn script(
        &self,
        step: &Value,
        context: &Value,
        env: &[&Value],
        state: &mut State,
    ) -> Result<(bool, Value)> {
        let temp = self.folder.path().join("temp");
        let file = |name: &str| {
            let path = temp.join(format!("{name}-{}", uuid::Uuid::new_v4()));
            fs::write(&path, "").map(|()| path)
        };
        let (script, output, summary) = (file("script")?, file("output")?, file("summary")?);
        let variables = file("env")?;
        fs::write(&script, substitute(step["run"].as_str().context("a step runs something")?, context)?)?;
        let mut command = Command::new(program("bash"));
        match step["shell"].as_str() {
            None => command.arg("-e"),
            Some("bash") => command.args(["--noprofile", "--norc", "-eo", "pipefail"]),
            Some(other) => bail!("this runner has no shell {other}"),
        };
        command.arg(&script).current_dir(self.workspace()).env_clear();
        command.env("PATH", &self.path).env("HOME", self.folder.path().join("home"));
        command.env("KUBECONFIG", &self.kubeconfig).env("RUNNER_TEMP", &temp).env("GITHUB_ACTIONS", "true");
        command.env("GITHUB_WORKSPACE", self.workspace()).env("GITHUB_RUN_ID", "1");
        command.envs(SHORT_RUN).envs(self.env.iter().cloned()).env("GITHUB_ENV", &variables);
        command.env("GITHUB_OUTPUT", &output).env("GITHUB_STEP_SUMMARY", &summary);
        if let Some(path) = context["github"]["action_path"].as_str() {
            command.env("GITHUB_ACTION_PATH", path);
        }
        let own = [&step["env"]];
        for (at, values) in env.iter().copied().chain(own).enumerate() {
            if at == env.len() {
                command.envs(state.env.iter().cloned());
            }
            for (name, value) in values.as_object().into_iter().flatten() {
                command.env(name, substitute(value.as_str().context("a variable is text")?, context)?);
            }
        }
        let done = command.output().context("cannot run bash")?;
        state.print(&String::from_utf8_lossy(&done.stdout));
        state.print(&String::from_utf8_lossy(&done.stderr));
        for line in fs::read_to_string(variables)?.lines() {
            let (name, value) = line.split_once('=').context("a variable is NAME=VALUE")?;
            state.env.push((name.to_owned(), value.to_owned()));
        }
        state.summary.push_str(&fs::read_to_string(summary)?);
        let mut outputs = Map::new();
        for line in fs::read_to_string(output)?.lines() {
            let (name, value) = line.split_once('=').context("an output is NAME=VALUE")?;
            outputs.insert(name.to_owned(), json!(value));
        }
        Ok((done.status.success(), outputs.into()))
    }

    fn action(
        &self,
        folder: &Path,
        with: &Value,
        context: &Value,
        state: &mut State,
    ) -> Result<(bool, Value)> {
        let action: Value = yaml(&fs::read_to_string(folder.join("action.yml"))?)?;
        let known = action["inputs"].as_object().context("an action has inputs")?;
        let mut inputs = Map::new();
        for (name, given) in with.as_object().into_iter().flatten() {
            ensure!(known.contains_key(name), "the action has no input {name}");
            let given = given.as_str().with_context(|| format!("the input {name} is text"))?;
            inputs.insert(name.clone(), json!(substitute(given, context)?));
        }
        for (name, input) in known.iter().filter(|(name, _)| !with[name.as_str()].is_string()) {
            ensure!(input["required"] == false, "the input {name} is required");
            inputs.insert(name.clone(), input["default"].clone());
        }
        let inner = json!({"inputs": inputs, "github": {"action_path": folder}});
        let inner = self.steps(&action["runs"]["steps"], inner, &[], state)?;
        let mut outputs = Map::new();
        for (name, output) in action["outputs"].as_object().into_iter().flatten() {
            let value = output["value"].as_str().context("an output has a value")?;
            outputs.insert(name.clone(), json!(substitute(value, &inner)?));
        }
        Ok((!state.failed, outputs.into()))
    }
}

/// What a job has done so far.
#[derive(Default)]
struct State {
    failed: bool,
    log: String,
    summary: String,
    env: Vec<(String, String)>,
    masks: Vec<String>,
}

impl State {
    /// Adds to the log, with stars for what a step has asked to mask.
    fn print(&mut self, text: &str) {
        for line in text.split_inclusive('\n') {
            if let Some(secret) = line.strip_prefix("::add-mask::") {
                self.masks.push(secret.trim_end().to_owned());
                continue;
            }
            let shown = self.masks.iter().fold(line.to_owned(), |line, secret| line.replace(secret, "***"));
            self.log.push_str(&shown);
        }
    }
}

fn yaml(text: &str) -> Result<Value> {
    serde_yaml::from_str(text).map_err(|error| anyhow::anyhow!("this is no YAML: {error}\n{text}"))
}

#[cfg(test)]
mod tests;
