//! Plays a sequence on the real parts, and waits until it has settled.
//!
//! In: steps. Out: an error that says what is not as it should be. Users' edits are sent as kubectl sends them; one that
//! the API server refuses for a good reason (the object is not there, or on its way out) changes no wish.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use http::Method;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use opendepot::api::object_name::version_object;
use opendepot::api::{Module, Version};
use opendepot::domain::Release;
use opendepot_testbed::eventually;
use opendepot_testbed::github::{Failure, Fault, File};
use opendepot_testbed::operator::Operator;
use opendepot_testbed::s3::{S3Failure, S3Fault};
use serde_json::{Value, json};

use super::expected::{Wish, repository, spelling};
use super::steps::{MODULES, Step, TAGS};
use crate::support::{World, archives, condition, ready};

/// The Version that belongs to no Module.
const INLINE: &str = "inline";

/// One sequence under way.
pub(super) struct Player {
    seed: u64,
    world: World,
    buckets: Vec<String>,
    operator: Operator,
    up: bool,
    wishes: Vec<Wish>,
    inline: bool,
    asked: usize,
}

impl Player {
    /// A fresh namespace, two buckets, two repositories with all tags, and an operator.
    pub(super) async fn new(seed: u64) -> Result<Self> {
        let world = World::new(&format!("model-{seed}")).await;
        let buckets = vec![world.name.clone(), format!("{}-other", world.name)];
        world.bed.s3.create_bucket(&buckets[1]).await?;
        for number in 0..MODULES {
            let repository = world.bed.github.repository(&world.repository(&repository(number)))?;
            repository.releases(TAGS.map(|tag| (tag, vec![File::new("main.tf", content(number, tag))])))?;
        }
        let operator = world.operator_with(&["--verify-interval", "2s"]).await;
        let wishes = (0..MODULES).map(Wish::of).collect();
        Ok(Self { seed, world, buckets, operator, up: true, wishes, inline: false, asked: 0 })
    }

    /// What the operator printed.
    pub(super) fn log(&self) -> String {
        self.operator.log()
    }

    fn modules(&self) -> Api<DynamicObject> {
        opendepot::controller::client::objects::<Module>(&self.world.client, &self.world.name)
    }

    fn versions(&self) -> Api<DynamicObject> {
        opendepot::controller::client::objects::<Version>(&self.world.client, &self.world.name)
    }

    /// Does one thing.
    pub(super) async fn play(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Append { module, .. }
            | Step::List { module, .. }
            | Step::Remove { module, .. }
            | Step::Limit { module, .. }
            | Step::Move { module, .. }
            | Step::Rename { module, .. }
            | Step::Format { module, .. }
            | Step::Repository { module, .. }
            | Step::Immutable { module, .. }
            | Step::Suspend { module, .. } => self.edit(*module, step).await,
            Step::ForceModule { module } => force(&self.modules(), &repository(*module)).await,
            Step::ForceVersion { module, version } => {
                force(&self.versions(), &named(*module, *version)).await
            }
            Step::AskModule { module } => {
                self.asked += 1;
                ask(&self.modules(), &repository(*module), self.asked).await
            }
            Step::AskVersion { module, version } => {
                self.asked += 1;
                ask(&self.versions(), &named(*module, *version), self.asked).await
            }
            Step::DeleteModule { module, foreground } => {
                self.wishes[*module].there = false;
                let how = if *foreground { DeleteParams::foreground() } else { DeleteParams::background() };
                unless_refused(self.modules().delete(&repository(*module), &how).await, &[404]).map(drop)
            }
            Step::DeleteVersion { module, version } => {
                let how = DeleteParams::default();
                unless_refused(self.versions().delete(&named(*module, *version), &how).await, &[404])
                    .map(drop)
            }
            Step::Inline { there } => self.inline(*there).await,
            Step::Lose { .. } | Step::Damage { .. } => self.spoil(step).await,
            Step::Kill if self.up => {
                self.up = false;
                self.operator.kill().await
            }
            Step::Terminate if self.up => {
                self.up = false;
                self.operator.terminate(Duration::from_secs(15)).await.map(drop)
            }
            Step::Kill | Step::Terminate => Ok(()),
            Step::Start => self.start().await,
            Step::Pause { milliseconds } => {
                tokio::time::sleep(Duration::from_millis(*milliseconds)).await;
                Ok(())
            }
            _ => {
                self.fail(step);
                Ok(())
            }
        }
    }

    async fn start(&mut self) -> Result<()> {
        if !self.up {
            self.operator.restart().await?;
            self.up = true;
        }
        Ok(())
    }

    /// A change of a Module. Only what would be applied anyhow makes one that is not there.
    async fn edit(&mut self, number: usize, step: &Step) -> Result<()> {
        let (api, name) = (self.modules(), repository(number));
        let mut wish = self.wishes[number].clone();
        let there = api.get_opt(&name).await?;
        if there.as_ref().is_some_and(|module| module.metadata.deletion_timestamp.is_some())
            || (there.is_none() && !matches!(step, Step::Append { .. } | Step::List { .. }))
        {
            return Ok(());
        }
        wish.take(step);
        if there.is_none() {
            wish.there = true;
            let object = serde_json::from_value(json!({
                "apiVersion": "opendepot.defdev.io/v1alpha1", "kind": "Module",
                "metadata": {"name": name, "namespace": self.world.name},
                "spec": self.spec(&wish),
            }))?;
            api.create(&PostParams::default(), &object).await?;
        } else if let Step::Append { version, spelled, .. } = step {
            let entry = json!({"version": spelling(*version, *spelled)});
            let patch =
                serde_json::from_value(json!([{"op": "add", "path": "/spec/versions/-", "value": entry}]))?;
            // An entry that is there already is refused, which is as good as done.
            let result = api.patch(&name, &PatchParams::default(), &Patch::Json::<()>(patch)).await;
            unless_refused(result, &[422])?;
        } else {
            let patch = Patch::Merge(json!({"spec": self.spec(&wish)}));
            api.patch(&name, &PatchParams::default(), &patch).await?;
        }
        self.wishes[number] = wish;
        Ok(())
    }

    fn spec(&self, wish: &Wish) -> Value {
        let versions: Vec<Value> = wish.versions.iter().map(|v| json!({"version": v})).collect();
        json!({
            "suspend": wish.suspended,
            "versions": versions,
            "moduleConfig": wish.config(&self.world.name, &self.buckets),
        })
    }

    async fn inline(&mut self, there: bool) -> Result<()> {
        let api = self.versions();
        if there {
            let config =
                Wish { prefix: Some("inline"), ..Wish::of(0) }.config(&self.world.name, &self.buckets);
            let object = serde_json::from_value(json!({
                "apiVersion": "opendepot.defdev.io/v1alpha1", "kind": "Version",
                "metadata": {"name": INLINE, "namespace": self.world.name},
                "spec": {"type": "Module", "version": "1.0.0", "moduleConfigRef": config},
            }))?;
            let made = unless_refused(api.create(&PostParams::default(), &object).await, &[409])?;
            self.inline = self.inline || made;
        } else {
            self.inline = false;
            unless_refused(api.delete(INLINE, &DeleteParams::default()).await, &[404])?;
        }
        Ok(())
    }

    /// A client deletes an object, or half of its bytes. Only one that a Version has on record as stored is damaged: none could
    /// tell such damage from the bytes of a PUT whose answer was lost.
    async fn spoil(&self, step: &Step) -> Result<()> {
        let list = self.versions().list(&ListParams::default()).await?;
        let places: Vec<Value> = list.items.iter().map(|v| v.data["status"]["storage"].clone()).collect();
        let places: Vec<&Value> = places.iter().filter(|place| place.is_object()).collect();
        let (Step::Lose { nth } | Step::Damage { nth }) = step else { return Ok(()) };
        let Some(place) = places.get(nth % places.len().max(1)) else { return Ok(()) };
        let (bucket, key) = (place["bucket"].as_str().unwrap(), place["key"].as_str().unwrap());
        if matches!(step, Step::Lose { .. }) {
            // The fault of an earlier step may meet this one as well: then nothing is lost.
            let _ = self.world.bed.s3.delete(bucket, key).await;
            return Ok(());
        }
        let file = self.world.bed.s3.object_file(bucket, key);
        if let Ok(mut file) = std::fs::OpenOptions::new().write(true).truncate(true).open(file) {
            file.write_all(b"damaged")?;
        }
        Ok(())
    }

    fn fail(&self, step: &Step) {
        let bed = self.world.bed;
        let methods = [Method::PUT, Method::HEAD, Method::DELETE];
        let on = |number: usize| self.world.repository(&repository(number));
        match step {
            Step::GitHubFails { repository, status, times } => {
                bed.github.inject(Fault::on(&on(*repository), Failure::Status(*status)).times(*times));
            }
            Step::GitHubCuts { repository, times } => {
                bed.github.inject(Fault::on(&on(*repository), Failure::Cut).times(*times));
            }
            Step::S3Fails { bucket, method, times } => {
                let fault = S3Fault::new(&self.buckets[*bucket], S3Failure::Answer(503, "SlowDown"));
                bed.s3.inject(fault.method(methods[*method].clone()).times(*times));
            }
            Step::S3LosesAnswer { bucket, method, times } => {
                let fault = S3Fault::new(&self.buckets[*bucket], S3Failure::CutAfter);
                bed.s3.inject(fault.method(methods[*method].clone()).times(*times));
            }
            _ => {}
        }
    }

    /// Nothing fails any more and nothing is suspended: then all becomes as wanted, and rests.
    pub(super) async fn settles(&mut self, deadline: Duration) -> Result<()> {
        for bucket in &self.buckets {
            self.world.bed.s3.clear_faults(bucket);
        }
        for number in 0..MODULES {
            self.world.bed.github.clear_faults(&self.world.repository(&repository(number)))?;
            if self.wishes[number].suspended {
                self.edit(number, &Step::Suspend { module: number, suspended: false }).await?;
            }
        }
        // Two of three settle through a restart, which forgets how long to wait; the others sit it out.
        if !self.seed.is_multiple_of(3) {
            self.play(&Step::Kill).await?;
        }
        self.start().await?;
        eventually(deadline, || self.is_as_wanted()).await?;
        let mut still = Ok(());
        let writes = self.world.writes_during(async { still = self.is_as_wanted().await }).await;
        still?;
        ensure!(writes.is_empty(), "it does not rest: {writes:#?}");
        let log = self.operator.log();
        ensure!(!log.contains("panicked") && !log.contains("InternalError"), "there was a panic");
        Ok(())
    }

    /// Wanted = Versions = objects, and every status is true.
    async fn is_as_wanted(&self) -> Result<()> {
        let mut versions: BTreeMap<String, Value> = BTreeMap::new();
        for version in self.world.versions().await? {
            versions.insert(version["metadata"]["name"].as_str().unwrap_or_default().to_owned(), version);
        }
        let mut names = BTreeSet::new();
        let mut keys = BTreeSet::new();
        for (number, wish) in self.wishes.iter().enumerate() {
            let name = repository(number);
            let module = self.modules().get_opt(&name).await?.map(|m| serde_json::to_value(m).unwrap());
            let wanted = wish.wanted(&name);
            for (name, release) in &wanted {
                let version = versions.get(name).with_context(|| format!("{name} is missing"))?;
                let owner = &version["metadata"]["ownerReferences"][0]["uid"];
                ensure!(
                    Some(owner) == module.as_ref().map(|m| &m["metadata"]["uid"]),
                    "{name} is not the Module's"
                );
                keys.insert(self.is_stored(version, wish, release).await.with_context(|| name.clone())?);
                names.insert(name.clone());
            }
            ensure!(module.is_some() == wish.there, "Module {name} is there: {}", module.is_some());
            if let Some(module) = module {
                tells_the_truth(&module, wish, &wanted)?;
            }
        }
        if self.inline {
            let version = versions.get(INLINE).context("the inline Version is missing")?;
            let wish = Wish { prefix: Some("inline"), name: Some(INLINE), ..Wish::of(0) };
            keys.insert(self.is_stored(version, &wish, &Release::parse("1.0.0")?).await.context(INLINE)?);
            names.insert(INLINE.to_owned());
        }
        let there: BTreeSet<String> = versions.into_keys().collect();
        ensure!(there == names, "the Versions are {there:?} and should be {names:?}");
        let mut objects = BTreeSet::new();
        for bucket in &self.buckets {
            objects.extend(
                self.world.bed.s3.keys(bucket).await?.into_iter().map(|key| format!("{bucket}/{key}")),
            );
        }
        ensure!(objects == keys, "the objects are {objects:#?} and should be {keys:#?}");
        Ok(())
    }

    /// Whether a Version is at rest, and the object that its status speaks of is what it says. Gives the place.
    async fn is_stored(&self, version: &Value, wish: &Wish, release: &Release) -> Result<String> {
        let status = &version["status"];
        ensure!(ready(version) && status["synced"] == true, "not Ready: {status:#}");
        for type_ in ["Reconciling", "Stalled"] {
            ensure!(condition(version, type_)["status"] != "True", "Ready and {type_}: {status:#}");
        }
        ensure!(
            status["pendingForce"].is_null() && version["spec"]["forceSync"] != true,
            "a force is open: {version:#}"
        );
        ensure!(answered(version, "requestedAt", "lastHandledRequest"), "a request is open: {version:#}");
        ensure!(answered(version, "module-request", "lastModuleRequest"), "a request is open: {version:#}");
        let place = &status["storage"];
        ensure!(status["objects"] == json!([place]), "it has other objects on record: {status:#}");
        let (bucket, key) = (place["bucket"].as_str().unwrap(), place["key"].as_str().unwrap());
        let module = wish.name.map_or_else(|| repository_of(version), str::to_owned);
        let begins = wish.prefix.map_or_else(|| format!("{module}/"), |prefix| format!("{prefix}/{module}/"));
        let ends = if wish.tar { ".tar.gz" } else { ".zip" };
        ensure!(
            bucket == self.buckets[wish.bucket] && key.starts_with(&begins) && key.ends_with(ends),
            "it is in {bucket} as {key}, and should begin with {begins}"
        );
        let bytes = self.world.bed.s3.get(bucket, key).await.context("its object is missing")?;
        ensure!(status["checksum"] == archives::sha256(&bytes), "the checksum is another's");
        ensure!(status["archiveSizeBytes"] == bytes.len(), "the size is another's");
        let tag = TAGS.into_iter().find(|tag| Release::parse(tag).unwrap() == *release).unwrap();
        let tree: archives::Tree =
            [("main.tf".to_owned(), (false, content(wish.repository, tag).into_bytes()))].into();
        ensure!(archives::tree(&bytes) == tree, "it holds something else: {:?}", archives::tree(&bytes));
        ensure!(status["contentDigest"] == archives::h1(&tree), "the digest is another's");
        ensure!(status["source"]["ref"] == format!("refs/tags/{tag}"), "the tag is another: {status:#}");
        Ok(format!("{bucket}/{key}"))
    }
}

/// Whether a Module's status is what there is.
fn tells_the_truth(module: &Value, wish: &Wish, wanted: &BTreeMap<String, Release>) -> Result<()> {
    let (status, name) = (&module["status"], repository_of(module));
    ensure!(ready(module) && status["synced"] == true, "Module {name} is not Ready: {status:#}");
    let count = wanted.len();
    let counts = json!({
        "desired": count, "synced": count, "failed": 0, "pruned": wish.pruned(&name), "summary": format!("{count}/{count}"),
    });
    ensure!(status["versions"] == counts, "the counts are {} and should be {counts}", status["versions"]);
    let highest = |pre: bool| {
        let some = wanted.values().filter(|release| release.is_prerelease() == pre);
        some.max_by(|a, b| a.precedence(b)).map(ToString::to_string)
    };
    let latest = highest(false).or_else(|| highest(true));
    ensure!(
        status["latestVersion"] == json!(latest),
        "the latest is {} and should be {latest:?}",
        status["latestVersion"]
    );
    ensure!(module["spec"]["forceSync"] != true, "a force is open");
    ensure!(answered(module, "requestedAt", "lastHandledRequest"), "a request is open");
    let token = status["forceToken"].as_str();
    ensure!(token.is_none_or(|token| token.starts_with("done:")), "a request is open: {token:?}");
    let published = status["published"].as_object();
    ensure!(published.is_some() == wish.immutable, "published is {published:?}");
    let missing = wanted.values().find(|r| published.is_some_and(|p| !p.contains_key(&r.to_string())));
    ensure!(missing.is_none(), "published is {published:?}, without {missing:?}");
    let spelled: Vec<&str> = module["spec"]["versions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v["version"].as_str().unwrap())
        .collect();
    ensure!(spelled == wish.versions, "spec.versions was changed to {spelled:?}");
    Ok(())
}

/// Whether an annotation, where it is there, is recorded as handled.
fn answered(object: &Value, annotation: &str, field: &str) -> bool {
    let asked = &object["metadata"]["annotations"][format!("opendepot.defdev.io/{annotation}")];
    asked.is_null() || *asked == object["status"][field]
}

/// The Module's name that an object has or that its configuration names.
fn repository_of(object: &Value) -> String {
    let named = &object["spec"]["moduleConfigRef"]["name"];
    named.as_str().or(object["metadata"]["name"].as_str()).unwrap_or_default().to_owned()
}

/// What a tag of a repository holds.
fn content(repository: usize, tag: &str) -> String {
    format!("# {repository} {tag}\n")
}

fn named(module: usize, version: usize) -> String {
    version_object(&repository(module), &Release::parse(TAGS[version]).unwrap())
}

async fn force(api: &Api<DynamicObject>, name: &str) -> Result<()> {
    let patch = Patch::Merge(json!({"spec": {"forceSync": true}}));
    unless_refused(api.patch(name, &PatchParams::default(), &patch).await, &[404]).map(drop)
}

async fn ask(api: &Api<DynamicObject>, name: &str, token: usize) -> Result<()> {
    let annotation = json!({"opendepot.defdev.io/requestedAt": token.to_string()});
    let patch = Patch::Merge(json!({"metadata": {"annotations": annotation}}));
    unless_refused(api.patch(name, &PatchParams::default(), &patch).await, &[404]).map(drop)
}

/// Whether it was done; a refusal with one of `codes` is no error.
fn unless_refused<T>(result: kube::Result<T>, codes: &[u16]) -> Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if codes.contains(&status.code) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
