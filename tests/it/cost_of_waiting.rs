//! The processor time that Versions cost others, which wait for a fetch or are settled.

use std::time::Duration;

use anyhow::ensure;
use opendepot_testbed::eventually;
use opendepot_testbed::github::{Failure, Fault};
use opendepot_testbed::operator::Operator;
use serde_json::json;

use crate::memory::{create_owned, create_settled};
use crate::support::{World, large_cluster};
use crate::waiting::{publish_module, queued};

const WAITING: usize = 3000;
const SETTLED: usize = 5000;

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

/// The least processor time of three Modules with 40 versions, in each namespace. Other processes on the machine add to it, and take
/// nothing away; they do so alike for all, which take turns.
async fn least(namespaces: [&(World, Operator); 3]) -> [u64; 3] {
    let mut least = [u64::MAX; 3];
    for round in 1..=3 {
        let name = format!("round-{round}");
        for (least, (world, operator)) in least.iter_mut().zip(namespaces) {
            *least = publish(world, operator, &name, 40).await.min(*least);
        }
    }
    least
}

/// A namespace with its operator, in which so many Versions wait, and which has published since.
async fn warm(world: World, waiting: usize) -> (World, Operator) {
    let operator = world.operator_with(&["--verify-interval", "0"]).await;
    let queued = eventually(Duration::from_mins(10), || async {
        let depth = queued(&operator).await?;
        // On a busy machine, the first few have failed by then and are fetched again.
        ensure!(depth + 10 >= waiting, "{depth} are queued");
        Ok(())
    });
    queued.await.unwrap();
    publish(&world, &operator, "warm", 20).await;
    (world, operator)
}

/// Creates Versions that have not been fetched, and whose repository hangs.
async fn create_waiting(world: &World) {
    world.bed.github.inject(Fault::on(&world.repository("settled"), Failure::Hang));
    let mut versions = create_owned(world, 1, WAITING).await;
    for version in &mut versions {
        version["status"] = json!({"observedGeneration": -1});
    }
    world.bed.kubernetes.store("versions", &versions).await.unwrap();
}

#[tokio::test]
async fn thousands_that_wait_or_are_settled_cost_a_module_no_processor_time() {
    let (_turn, bed) = large_cluster().await;
    let quiet = warm(World::on(bed, "costly-none").await, 0).await;
    let waiting = World::on(bed, "costly-waiting").await;
    create_waiting(&waiting).await;
    let waiting = warm(waiting, WAITING).await;
    let settled = World::on(bed, "costly-settled").await;
    create_settled(&settled, SETTLED).await;
    let settled = warm(settled, 0).await;
    settled.0.quiet().await;
    let [alone, waiting, settled] = least([&quiet, &waiting, &settled]).await;
    let ticks = format!(
        "{alone} ticks alone, {waiting} beside {WAITING} that wait, {settled} beside {SETTLED} settled"
    );
    println!("40 versions: {ticks}");
    assert!(waiting <= alone * 2 && settled <= alone * 3 / 2, "{ticks}");
}
