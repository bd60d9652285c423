//! Random lives: users edit, things fail, the operator is killed; and when it settles, all is as wanted.
//!
//! Each sequence is made from a seed, plays against the real control plane, S3 and local GitHub with an operator of its
//! own, and is then left alone until the Versions are what the Modules want, the buckets hold just the objects that the
//! Versions speak of, every status is true, and nothing is written any more.
//!
//! `OPENDEPOT_MODEL_SEQUENCES=500` plays more of them, `OPENDEPOT_MODEL_SEED=17` only that one, again.

mod expected;
mod play;
mod steps;

use std::time::Duration;

use futures::{StreamExt as _, stream};

use self::play::Player;

/// Sequences that every run plays.
const SEQUENCES: u64 = 50;
/// Sequences, each with an operator of its own, under way at once.
const AT_ONCE: usize = 8;
/// How long a sequence may take to settle. Failed attempts of its faults wait for up to 20 seconds each time.
const SETTLED: Duration = Duration::from_mins(2);

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

#[tokio::test]
async fn whatever_users_do_and_whatever_fails_all_is_as_wanted_when_it_settles() {
    let first = from_env("OPENDEPOT_MODEL_FIRST").unwrap_or(0);
    let seeds: Vec<u64> = match from_env("OPENDEPOT_MODEL_SEED") {
        Some(seed) => vec![seed],
        None => (first..first + from_env("OPENDEPOT_MODEL_SEQUENCES").unwrap_or(SEQUENCES)).collect(),
    };
    let _turn = crate::support::heavy().await;
    let results: Vec<(u64, anyhow::Result<()>)> = stream::iter(seeds)
        .map(|seed| async move { (seed, Box::pin(sequence(seed)).await) })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let failed: Vec<String> = results
        .iter()
        .filter_map(|(seed, result)| Some((seed, result.as_ref().err()?)))
        .map(|(seed, error)| format!("OPENDEPOT_MODEL_SEED={seed}: {error:#}"))
        .collect();
    assert!(failed.is_empty(), "{} of {} failed\n{}", failed.len(), results.len(), failed.join("\n\n"));
}

async fn sequence(seed: u64) -> anyhow::Result<()> {
    let steps = steps::from_seed(seed);
    let mut player = Player::new(seed).await?;
    let history = || steps.iter().map(|step| format!("{step:?}")).collect::<Vec<_>>().join("\n  ");
    let result = async {
        for step in &steps {
            player.play(step).await.map_err(|error| error.context(format!("at {step:?}")))?;
        }
        player.settles(SETTLED).await
    };
    result.await.map_err(|error| {
        let log = std::env::temp_dir().join(format!("model-{seed}.log"));
        let kept = std::fs::write(&log, player.log());
        error.context(format!("the operator's log: {} ({kept:?})\n  {}\n", log.display(), history()))
    })
}
