//! Archives that are larger than the memory that the operator may use.

use std::io::Write as _;

use opendepot_testbed::eventually;
use opendepot_testbed::github::{File, Format};

use crate::support::World;

/// What the documents promise: resident, with four archives in flight.
const MOST: u64 = 64 << 20;

/// Megabytes of each archive: enough to show that they are not kept in memory, and more on demand.
fn megabytes() -> usize {
    std::env::var("OPENDEPOT_TEST_LARGE_MB").ok().and_then(|mb| mb.parse().ok()).unwrap_or(40)
}

/// A tar.gz of one file of noise, which no compressor makes smaller.
fn archive(megabytes: usize) -> Vec<u8> {
    let mut noise = vec![0; megabytes << 20];
    let mut state = 88_172_645_463_325_252_u64;
    for chunk in noise.chunks_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        chunk.copy_from_slice(&state.to_le_bytes()[..chunk.len()]);
    }
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none()));
    let mut header = tar::Header::new_gnu();
    header.set_size(noise.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, "mod-1.0.0/noise.bin", noise.as_slice()).unwrap();
    let mut gzip = tar.into_inner().unwrap();
    gzip.flush().unwrap();
    gzip.finish().unwrap()
}

#[tokio::test]
async fn four_large_archives_in_flight_stay_out_of_memory() {
    let world = World::new("large").await;
    let repository = world.bed.github.repository(&world.repository("mod")).unwrap();
    let bytes = bytes::Bytes::from(archive(megabytes()));
    let versions = ["1.0.0", "1.1.0", "1.2.0", "1.3.0"];
    for version in versions {
        repository.release(version, &[File::new("main.tf", "# replaced\n")]).unwrap();
        repository.replace_archive(version, Format::TarGz, bytes.clone()).unwrap();
    }
    drop(bytes);
    let operator = world.operator().await;
    world.apply(&world.module("mod").config("fileFormat", serde_json::json!("tar")).versions(&versions));
    let stored = eventually(std::time::Duration::from_mins(5), || async {
        let module = world.get_module("mod").await?;
        anyhow::ensure!(module["status"]["synced"] == true, "{}", module["status"]["syncStatus"]);
        Ok(())
    });
    stored.await.unwrap_or_else(|error| panic!("{error:#}\n{}", operator.log()));
    let memory = operator.memory().unwrap();
    println!("four archives of {} MB: {memory:?}", megabytes());
    assert!(memory.peak_of_release() <= MOST, "{memory:?}");
}
