//! Every state of a namespace's Modules and Versions that a watch shows, held against the book: what kstatus, the API
//! conventions and the specification say of status and conditions. A test that only looks at final states would not see
//! a flip.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result, ensure};
use futures::StreamExt as _;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use opendepot::api::condition::MAX_MESSAGE;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{World, condition, soon};

/// An object as a watch showed it, or that it was gone.
#[derive(Clone, Debug)]
pub(crate) struct State {
    /// etcd's revision: one order for all objects.
    pub revision: u64,
    /// Whether this is the last of it.
    pub gone: bool,
    /// All of it.
    pub object: Value,
}

/// A running watch, and what it has shown so far.
pub(crate) struct Watched {
    seen: Arc<Mutex<Vec<State>>>,
    _watches: JoinSet<()>,
}

impl World {
    /// Watches this namespace from now on.
    pub(crate) async fn watched(&self) -> Watched {
        let (seen, listed) = (Arc::<Mutex<Vec<State>>>::default(), Arc::<Mutex<u32>>::default());
        let mut watches = JoinSet::new();
        for api in [self.api::<opendepot::api::Module>(), self.api::<opendepot::api::Version>()] {
            let (seen, listed) = (Arc::clone(&seen), Arc::clone(&listed));
            watches.spawn(async move {
                // A watch that ends early begins again, where it ended or with a list.
                let mut events = pin!(watcher(api, watcher::Config::default()).default_backoff());
                let mut begun = false;
                while let Some(event) = events.next().await {
                    let (object, gone) = match event {
                        Ok(Event::Apply(object) | Event::InitApply(object)) => (object, false),
                        Ok(Event::Delete(object)) => (object, true),
                        Ok(Event::InitDone) => {
                            *listed.lock().unwrap() += u32::from(!std::mem::replace(&mut begun, true));
                            continue;
                        }
                        Ok(Event::Init) | Err(_) => continue,
                    };
                    let object = serde_json::to_value(object).unwrap();
                    seen.lock().unwrap().push(State { revision: revision(&object), gone, object });
                }
            });
        }
        let both = || async {
            ensure!(*listed.lock().unwrap() == 2, "the watches have not begun");
            Ok(())
        };
        soon(both).await;
        Watched { seen, _watches: watches }
    }
}

impl Watched {
    /// What was seen of one object, `Module/NAME` or `Version/NAME`, once all that has happened so far was seen.
    pub(crate) async fn states(&self, world: &World, object: &str) -> Vec<Value> {
        let all = self.all(world).await;
        all.into_iter().filter(|s| title(&s.object) == object && !s.gone).map(|s| s.object).collect()
    }

    /// Holds every state that was seen against the book, and all of them together.
    pub(crate) async fn is_by_the_book(&self, world: &World) {
        let all = self.all(world).await;
        let mut wrong = Vec::new();
        let mut last: BTreeMap<String, Value> = BTreeMap::new();
        for state in all {
            let name = title(&state.object);
            let before =
                last.get(&name).filter(|b| b["metadata"]["uid"] == state.object["metadata"]["uid"]).cloned();
            let before = before.as_ref();
            let mut rules = vec![by_itself(&state.object)];
            rules.extend(before.map(|before| after_another(before, &state.object)));
            if state.gone {
                last.remove(&name);
            } else {
                let mut known = state.object.clone();
                if before.is_some_and(|before| is_reset(before, &known)) {
                    known["status"]["observedGeneration"] = known["metadata"]["generation"].clone();
                }
                last.insert(name.clone(), known);
                rules.push(among_others(&state.object, &last));
            }
            let errors = rules.into_iter().filter_map(Result::err);
            let was = before.map(shown);
            wrong.extend(
                errors.map(|e| format!("{name}: {e:#}\n{:#}\nbefore: {was:#?}", shown(&state.object))),
            );
        }
        assert!(
            wrong.is_empty(),
            "{} states are wrong, first\n{}",
            wrong.len(),
            wrong[..wrong.len().min(3)].join("\n")
        );
    }

    /// All states in their order, once the watch has caught up with the API server.
    async fn all(&self, world: &World) -> Vec<State> {
        let caught_up = || async {
            let mut now = world.versions().await?;
            let modules =
                world.api::<opendepot::api::Module>().list(&kube::api::ListParams::default()).await?;
            now.extend(modules.items.iter().map(|m| serde_json::to_value(m).unwrap()));
            let now: BTreeMap<String, u64> = now.iter().map(|o| (title(o), revision(o))).collect();
            let mut seen = BTreeMap::new();
            for state in self.seen.lock().unwrap().iter() {
                let title = title(&state.object);
                if state.gone {
                    seen.remove(&title)
                } else {
                    seen.insert(title, state.revision)
                };
            }
            ensure!(seen == now, "the watch lags behind: {seen:?}, there is {now:?}");
            Ok(())
        };
        soon(caught_up).await;
        let mut all = self.seen.lock().unwrap().clone();
        all.sort_by_key(|state| state.revision);
        all
    }
}

/// The rules for one state.
fn by_itself(object: &Value) -> Result<()> {
    let (status, generation) = (&object["status"], &object["metadata"]["generation"]);
    let observed = status["observedGeneration"].as_i64().context("no observedGeneration")?;
    ensure!(observed <= generation.as_i64().unwrap(), "observedGeneration is ahead");
    if status["conditions"].is_null() {
        ensure!(observed == -1, "a status without conditions that claims to have seen the object");
        return Ok(());
    }
    let holds = |type_: &str| match condition(object, type_)["status"].as_str() {
        Some("True") => Ok(true),
        Some("False") => Ok(false),
        other => Err(anyhow::anyhow!("{type_} is {other:?}")),
    };
    let (ready, reconciling, stalled) = (holds("Ready")?, holds("Reconciling")?, holds("Stalled")?);
    let reported = condition(object, "Ready");
    for one in status["conditions"].as_array().unwrap() {
        // The address is no part of Ready, and waits for the watch where that is behind.
        let apart = one["type"] == "Addressable";
        ensure!(one["observedGeneration"] == observed || apart, "a condition speaks of another generation");
        ensure!(one["reason"].as_str().is_some_and(|r| !r.is_empty()), "a condition without reason");
        ensure!(one["message"].as_str().is_some_and(|m| m.len() <= MAX_MESSAGE), "a long message");
        let repeats = one["reason"] == reported["reason"] && one["message"] == reported["message"];
        ensure!(one["status"] == "False" || repeats || apart, "{} says other than Ready", one["type"]);
    }
    ensure!(status["syncStatus"] == reported["message"], "syncStatus says other than Ready");
    let resting = ready || reported["reason"] == "Suspended";
    ensure!(!(reconciling && stalled), "reconciling and stalled at once");
    ensure!(resting != (reconciling || stalled), "at rest neither of the two, otherwise one");
    if ready {
        ensure!(status["synced"] == true, "Ready, and not synced");
    }
    let stored = object["kind"] == "Version" && status["synced"] == true;
    let recorded = status["objects"].as_array().is_some_and(|all| all.contains(&status["storage"]));
    ensure!(!stored || (recorded && status["checksum"].is_string()), "synced, and not on record");
    let alone = status["objects"] == json!([status["storage"]]);
    ensure!(!(ready && object["kind"] == "Version") || alone, "Ready, and something is left to delete");
    Ok(())
}

/// The rules for two states of one object, one after the other.
fn after_another(before: &Value, after: &Value) -> Result<()> {
    let observed = |o: &Value| o["status"]["observedGeneration"].as_i64();
    ensure!(observed(before) <= observed(after), "observedGeneration decreases");
    for new in after["status"]["conditions"].as_array().into_iter().flatten() {
        let old = condition(before, new["type"].as_str().unwrap());
        let (then, now) = (old["lastTransitionTime"].as_str(), new["lastTransitionTime"].as_str());
        let flipped = old["status"] != new["status"];
        ensure!(if flipped { then <= now } else { then == now }, "{}'s transition time", new["type"]);
    }
    Ok(())
}

/// Whether the operator has reset `forceSync` after it wrote the status. No user has changed the spec, and the Module may have
/// been decided on before: two objects cannot be written at once.
fn is_reset(before: &Value, after: &Value) -> bool {
    let mut spec = after["spec"].clone();
    spec["forceSync"] = true.into();
    let is_observed = before["status"]["observedGeneration"] == before["metadata"]["generation"];
    after["spec"]["forceSync"] == false
        && spec == before["spec"]
        && after["status"] == before["status"]
        && is_observed
}

/// A Module that is Ready at its generation says so of Versions that are all stored, seen, and where it wants them.
fn among_others(module: &Value, last: &BTreeMap<String, Value>) -> Result<()> {
    if module["kind"] != "Module" || !super::ready(module) {
        return Ok(());
    }
    let name = module["metadata"]["name"].as_str().unwrap();
    let wanted = |v: &Value| format!("{name}-{}", v["version"].as_str().unwrap().trim_start_matches('v'));
    let mut wanted: Vec<String> = module["spec"]["versions"].as_array().unwrap().iter().map(wanted).collect();
    let owned = |v: &&Value| v["metadata"]["ownerReferences"][0]["uid"] == module["metadata"]["uid"];
    let mut there = Vec::new();
    for version in last.values().filter(owned) {
        let one = version["metadata"]["name"].as_str().unwrap();
        there.push(one.to_owned());
        let config = &module["spec"]["moduleConfig"];
        let (s3, status) = (&config["storageConfig"]["s3"], &version["status"]);
        let place = (&status["storage"]["bucket"], &status["storage"]["endpoint"]);
        ensure!(status["synced"] == true && place == (&s3["bucket"], &s3["endpoint"]), "{one} is elsewhere");
        for field in ["name", "provider", "repoUrl", "fileFormat", "deletionPolicy", "immutable"] {
            let reported = &version["spec"]["moduleConfigRef"][field];
            ensure!(config[field].is_null() || config[field] == *reported, "{one} does not have {field}");
        }
        ensure!(
            status["observedGeneration"] == version["metadata"]["generation"],
            "{one} has not seen its spec"
        );
        let ready = condition(version, "Ready");
        ensure!(ready["status"] == "True" || ready["reason"] == "Suspended", "{one} is not Ready");
    }
    wanted.sort();
    there.sort();
    ensure!(wanted == there, "wanted are {wanted:?}, there are {there:?}");
    Ok(())
}

fn title(object: &Value) -> String {
    format!("{}/{}", object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap())
}

fn revision(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

fn shown(object: &Value) -> Value {
    json!({"generation": object["metadata"]["generation"], "suspend": object["spec"]["suspend"], "status": object["status"]})
}
