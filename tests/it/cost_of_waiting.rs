//! The processor time that Versions cost others, which wait for a fetch or are settled.

use std::time::Duration;

use anyhow::ensure;
use opendepot_testbed::github::{Failure, Fault};
use opendepot_testbed::operator::Operator;
use opendepot_testbed::{Testbed, eventually};

use crate::memory::create_settled;
use crate::support::{World, large_cluster};
use crate::waiting::{numbered, publish_module, queued};

/// The processor time that the operator has used, in clock ticks.
fn ticks(operator: &Operator) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", operator.pid())).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// Publishes the versions of a new Module, and returns the processor time that it took.
async fn publish(world: &World, operator: &Operator, name: &str, count: usize) -> u64 {
    let before = ticks(operator);
    publish_module(world, world.module(name), name, count).await;
    ticks(operator) - before
}

/// The least processor time of three Modules, in a namespace that has nothing else and in one that is full. Other processes on the
/// machine add to it, and take nothing away; they do so alike for both, which take turns.
async fn least(alone: &(World, Operator), beside: &(World, Operator)) -> (u64, u64) {
    let mut least = (u64::MAX, u64::MAX);
    for round in 1..=3 {
        let name = format!("round-{round}");
        least.0 = least.0.min(publish(&alone.0, &alone.1, &name, 100).await);
        least.1 = least.1.min(publish(&beside.0, &beside.1, &name, 100).await);
    }
    least
}

/// A namespace and its operator, which has published before.
async fn warm(bed: &'static Testbed, name: &str) -> (World, Operator) {
    let world = World::on(bed, name).await;
    let operator = world.operator_with(&["--verify-interval", "0"]).await;
    publish(&world, &operator, "warm", 20).await;
    (world, operator)
}

#[tokio::test]
async fn thousands_that_wait_cost_the_others_no_processor_time() {
    let (_turn, bed) = large_cluster().await;
    let (quiet, busy) = (warm(bed, "costly-none").await, warm(bed, "costly-waiting").await);
    let (world, operator) = &busy;
    world.bed.github.inject(Fault::on(&world.repository("mod"), Failure::Hang));
    let versions = numbered(3000);
    world.apply(&world.module("mod").versions(&versions.iter().map(String::as_str).collect::<Vec<_>>()));
    let made = eventually(Duration::from_mins(10), || async {
        let depth = queued(operator).await?;
        // On a busy machine, the first few have failed by then and are fetched again.
        ensure!(depth + 10 >= versions.len(), "{depth} are queued");
        Ok(())
    });
    made.await.unwrap();
    let (alone, beside) = least(&quiet, &busy).await;
    println!("100 versions: {alone} ticks alone, {beside} beside 3,000 that wait");
    assert!(beside <= alone * 2, "{alone} ticks alone, {beside} beside 3,000 that wait");
}

#[tokio::test]
async fn settled_versions_of_others_cost_a_module_no_processor_time() {
    let (_turn, bed) = large_cluster().await;
    let (quiet, busy) = (warm(bed, "costly-empty").await, warm(bed, "costly-settled").await);
    create_settled(&busy.0, 5000).await;
    busy.0.quiet().await;
    let (alone, beside) = least(&quiet, &busy).await;
    println!("100 versions: {alone} ticks alone, {beside} beside 5,000 that are settled");
    assert!(beside <= alone * 3 / 2, "{alone} ticks alone, {beside} beside 5,000 that are settled");
}
