//! What may happen in a sequence, and how a seed becomes one.
//!
//! In: a seed. Out: steps, always the same for the same seed. Nothing here touches a server.

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// Modules of a sequence.
pub(super) const MODULES: usize = 2;
/// The tags of each repository; each version is asked for with and without `v`.
pub(super) const TAGS: [&str; 7] =
    ["v0.9.0", "1.0.0", "v1.1.0", "v1.2.0-rc.1", "1.2.0", "v2.0.0-Alpha", "v2.1.0+build.5"];

/// One thing that happens.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// `kubectl patch --type json`, as a release workflow does it.
    Append {
        module: usize,
        version: usize,
        spelled: bool,
    },
    /// `kubectl apply` of a whole list.
    List {
        module: usize,
        versions: Vec<usize>,
    },
    Remove {
        module: usize,
        version: usize,
    },
    Limit {
        module: usize,
        limit: usize,
    },
    ForceModule {
        module: usize,
    },
    ForceVersion {
        module: usize,
        version: usize,
    },
    AskModule {
        module: usize,
    },
    AskVersion {
        module: usize,
        version: usize,
    },
    /// Another bucket and prefix.
    Move {
        module: usize,
        bucket: usize,
        prefix: Option<&'static str>,
    },
    Rename {
        module: usize,
        name: Option<&'static str>,
    },
    Format {
        module: usize,
        tar: bool,
    },
    Repository {
        module: usize,
        repository: usize,
    },
    Immutable {
        module: usize,
        immutable: bool,
    },
    Suspend {
        module: usize,
        suspended: bool,
    },
    DeleteModule {
        module: usize,
        foreground: bool,
    },
    DeleteVersion {
        module: usize,
        version: usize,
    },
    /// A Version without a Module, or none.
    Inline {
        there: bool,
    },
    /// A client deletes or overwrites a stored object.
    Lose {
        nth: usize,
    },
    Damage {
        nth: usize,
    },
    /// GitHub fails so many requests.
    GitHubFails {
        repository: usize,
        status: u16,
        times: u32,
    },
    GitHubCuts {
        repository: usize,
        times: u32,
    },
    /// S3 refuses so many requests of one kind.
    S3Fails {
        bucket: usize,
        method: usize,
        times: u32,
    },
    /// S3 does what was asked, and its answer is lost.
    S3LosesAnswer {
        bucket: usize,
        method: usize,
        times: u32,
    },
    Kill,
    Terminate,
    Start,
    /// Things take their time.
    Pause {
        milliseconds: u64,
    },
}

/// The steps of a sequence.
pub(super) fn from_seed(seed: u64) -> Vec<Step> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    // An immutable version that comes from another repository is refused, rightly: so a sequence has one or the other.
    let sequence = any::<bool>().prop_flat_map(|pins| prop::collection::vec(step(pins), 6..40));
    sequence.new_tree(&mut runner).expect("there are no filters").current()
}

fn step(pins: bool) -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => edit(),
        4 => change(pins),
        2 => request(),
        3 => fault(),
        2 => prop_oneof![Just(Step::Kill), Just(Step::Terminate), Just(Step::Start), Just(Step::Start)],
        5 => prop_oneof![1_u64..300, 300_u64..2500].prop_map(|milliseconds| Step::Pause { milliseconds }),
    ]
}

fn edit() -> impl Strategy<Value = Step> {
    let (module, version) = (0..MODULES, 0..TAGS.len());
    prop_oneof![
        4 => (module.clone(), version.clone(), any::<bool>())
            .prop_map(|(module, version, spelled)| Step::Append { module, version, spelled }),
        3 => (module.clone(), prop::collection::vec(version.clone(), 0..7))
            .prop_map(|(module, versions)| Step::List { module, versions }),
        2 => (module.clone(), version.clone()).prop_map(|(module, version)| Step::Remove { module, version }),
        2 => (module.clone(), 0..4_usize).prop_map(|(module, limit)| Step::Limit { module, limit }),
        1 => (module.clone(), any::<bool>())
            .prop_map(|(module, foreground)| Step::DeleteModule { module, foreground }),
        1 => (module, version).prop_map(|(module, version)| Step::DeleteVersion { module, version }),
        1 => any::<bool>().prop_map(|there| Step::Inline { there }),
    ]
}

fn change(pins: bool) -> impl Strategy<Value = Step> {
    let module = 0..MODULES;
    let prefix = prop_oneof![Just(None), Just(Some("team")), Just(Some("a/b"))];
    prop_oneof![
        3 => (module.clone(), 0..2_usize, prefix)
            .prop_map(|(module, bucket, prefix)| Step::Move { module, bucket, prefix }),
        1 => (module.clone(), prop_oneof![Just(None), Just(Some("renamed"))])
            .prop_map(|(module, name)| Step::Rename { module, name }),
        2 => (module.clone(), any::<bool>()).prop_map(|(module, tar)| Step::Format { module, tar }),
        1 => (module.clone(), any::<bool>()).prop_map(|(module, suspended)| Step::Suspend { module, suspended }),
        2 => (module, any::<bool>(), 0..MODULES).prop_map(move |(module, immutable, repository)| {
            if pins { Step::Immutable { module, immutable } } else { Step::Repository { module, repository } }
        }),
    ]
}

fn request() -> impl Strategy<Value = Step> {
    let (module, version) = (0..MODULES, 0..TAGS.len());
    prop_oneof![
        module.clone().prop_map(|module| Step::ForceModule { module }),
        (module.clone(), version.clone())
            .prop_map(|(module, version)| Step::ForceVersion { module, version }),
        module.clone().prop_map(|module| Step::AskModule { module }),
        (module, version).prop_map(|(module, version)| Step::AskVersion { module, version }),
    ]
}

fn fault() -> impl Strategy<Value = Step> {
    let (repository, bucket, method) = (0..MODULES, 0..2_usize, 0..3_usize);
    prop_oneof![
        (0..9_usize).prop_map(|nth| Step::Lose { nth }),
        (0..9_usize).prop_map(|nth| Step::Damage { nth }),
        (repository.clone(), prop_oneof![Just(500), Just(502), Just(503)], 1..3_u32)
            .prop_map(|(repository, status, times)| Step::GitHubFails { repository, status, times }),
        (repository, 1..3_u32).prop_map(|(repository, times)| Step::GitHubCuts { repository, times }),
        (bucket.clone(), method.clone(), 1..4_u32).prop_map(|(bucket, method, times)| Step::S3Fails {
            bucket,
            method,
            times
        }),
        (bucket, method, 1..3_u32).prop_map(|(bucket, method, times)| Step::S3LosesAnswer {
            bucket,
            method,
            times
        }),
    ]
}
