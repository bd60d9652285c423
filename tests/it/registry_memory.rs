//! What the registry keeps in memory: its index, and little for each page, stream and connection.

use std::io::{Cursor, Write as _};
use std::time::Instant;

use anyhow::ensure;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::future::{Either, join, join_all, select};
use kube::api::{Patch, PatchParams};
use opendepot::api::{Module, Version};
use opendepot_testbed::eventually;
use opendepot_testbed::operator::Operator;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::memory::create_owned;
use crate::support::registry::{Depot, SYSTEM};
use crate::support::registry_files::answered;
use crate::support::{SOON, World, large_cluster};

/// At the peak, in bytes.
const MOST: u64 = 64 << 20;
const MODULES: usize = 100;
const EACH: usize = 100;
/// Modules whose newest version has an archive, since their pages are opened.
const DOCUMENTED: usize = 50;
/// Comparisons that are requested at once.
const COMPARED: usize = 120;
/// Comparisons whose clients leave without waiting for the answer.
const ABANDONED: usize = 500;
/// Rounds in which the lists of all modules are requested.
const ROUNDS: usize = 5;

/// A module of the size of the largest real ones: 200 inputs, a README that lists them, and submodules.
fn documented(module: &str) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    let mut folders = vec![(String::new(), 200)];
    folders.extend((0..8).map(|number| (format!("modules/part{number}/"), 80)));
    folders.extend((0..8).map(|number| (format!("examples/case{number}/"), 10)));
    for (folder, inputs) in folders {
        let mut add = |file: &str, text: &str| {
            zip.start_file(format!("{folder}{file}"), options).unwrap();
            zip.write_all(text.as_bytes()).unwrap();
        };
        let about = |number: usize| {
            format!(
                "What input {number} of {module} in {folder} sets, and which others have to be set with it, if any."
            )
        };
        let rows: String = (0..inputs)
            .map(|number| format!("| <a name=\"input_{number}\"></a> [input\\_{number}](#input\\_{number}) | {} | `map(object({{ name = string, size = optional(number, {number}) }}))` | `{{}}` | no |\n", about(number)))
            .collect();
        add(
            "README.md",
            &format!(
                "# {module} {folder}\n\n## Inputs\n\n| Name | Description | Type | Default | Required |\n|---|---|---|---|---|\n{rows}"
            ),
        );
        let variables: String = (0..inputs)
            .map(|number| format!("variable \"input_{number}\" {{\n  description = \"{}\"\n  type = map(object({{\n    name = string\n    size = optional(number, {number})\n  }}))\n  default = {{}}\n}}\n\n", about(number)))
            .collect();
        add("variables.tf", &variables);
        let outputs: String = (0..inputs / 3)
            .map(|number| format!("output \"output_{number}\" {{\n  description = \"{}\"\n  value = var.input_{number}\n}}\n\n", about(number)))
            .collect();
        add("outputs.tf", &outputs);
        let resources: String = (0..inputs / 3)
            .map(|number| format!("resource \"aws_instance\" \"it_{number}\" {{\n  for_each = var.input_{number}\n  ami = each.value.name\n}}\n\n"))
            .collect();
        add("main.tf", &resources);
    }
    zip.finish().unwrap().into_inner()
}

/// Has the Modules hold their addresses, and stores an archive for some.
async fn publish(world: &World) {
    let modules = world.api::<Module>();
    let versions = world.api::<Version>();
    let publish = async |number: usize| {
        let module = format!("settled{number}");
        let address = format!("{}/{module}/{SYSTEM}", world.name);
        let status = json!({"status": {"address": address, "observedGeneration": 1, "synced": true}});
        modules.patch_status(&module, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
        if number < DOCUMENTED {
            let bytes = documented(&module);
            let status = json!({"status": {"checksum": STANDARD.encode(digest(&SHA256, &bytes)), "archiveSizeBytes": bytes.len()}});
            world.bed.s3.put_with_sha256(&world.name, &format!("{module}/99.zip"), bytes).await.unwrap();
            let name = format!("{module}-1.99.0");
            versions.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
        }
    };
    join_all((0..MODULES).map(publish)).await;
}

fn fits(registry: &Operator, what: &str) {
    let memory = registry.memory().unwrap();
    println!("{what}: {memory:?}");
    assert!(memory.peak_of_release() <= MOST, "{what}: {memory:?}");
}

/// Requests the lists of all modules, and prints how long the answers took.
async fn list(depot: &Depot, base: &str, what: &str) {
    let client = reqwest::Client::new();
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        for number in 0..MODULES {
            let url = format!("{base}/v1/modules/{}/settled{number}/{SYSTEM}/versions", depot.world.name);
            let start = Instant::now();
            let answer = answered(|| client.get(&url)).await.unwrap();
            let list: Value = answer.json().await.unwrap();
            times.push(start.elapsed());
            assert_eq!(list["modules"][0]["versions"].as_array().unwrap().len(), EACH, "{list}");
        }
    }
    times.sort_unstable();
    println!(
        "{what}: versions at p50 in {:?}, at p99 in {:?}",
        times[times.len() / 2],
        times[times.len() * 99 / 100]
    );
}

/// Opens the pages of these modules at once.
async fn open_pages(depot: &Depot, base: &str) {
    let open = async |number: usize| {
        let url = format!("{base}/modules/{}/settled{number}/{SYSTEM}", depot.world.name);
        // So many archives are not read at once: some pages ask to try again.
        let opened = eventually(3 * SOON, || async {
            let answer = depot.get(&url, &[]).await?;
            let text = answer.text();
            ensure!(
                answer.status == 200 && text.contains("id=\"input_input_199\""),
                "{}: {text}",
                answer.status
            );
            Ok(())
        });
        opened.await.unwrap();
    };
    join_all((0..DOCUMENTED).map(open)).await;
}

/// Requests comparisons of large modules at once, first from clients that leave. Discovery is answered meanwhile.
async fn compare(depot: &Depot, base: &str) {
    let path = |number: usize| {
        format!(
            "/modules/{}/settled{}/{SYSTEM}/compare/1.99.0...1.99.0",
            depot.world.name,
            number % DOCUMENTED
        )
    };
    for number in 0..ABANDONED {
        let mut stream = TcpStream::connect(base.trim_start_matches("http://")).await.unwrap();
        let request = format!("GET {} HTTP/1.1\r\nhost: a\r\n\r\n", path(number));
        stream.write_all(request.as_bytes()).await.unwrap();
    }
    let compare = async |number: usize| {
        let answer = depot.get(&format!("{base}{}", path(number)), &[]).await.unwrap();
        let is_busy = answer.status == 503 && answer.headers["retry-after"] == "60";
        assert!(answer.status == 200 || is_busy, "{}: {}", answer.status, answer.text());
        answer.status == 200
    };
    let (client, mut discovered) = (reqwest::Client::new(), 0);
    let mut comparisons = Box::pin(join_all((0..COMPARED).map(compare)));
    let compared = loop {
        let discovery = Box::pin(client.get(format!("{base}/.well-known/terraform.json")).send());
        match select(comparisons, discovery).await {
            Either::Left((compared, _)) => break compared,
            Either::Right((answer, rest)) => {
                assert_eq!(answer.unwrap().status(), 200);
                (comparisons, discovered) = (rest, discovered + 1);
            }
        }
    };
    let compared = compared.into_iter().filter(|is_done| *is_done).count();
    println!("{compared} of {COMPARED} compared, {discovered} discoveries meanwhile");
    assert!(compared > 0 && discovered > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_versions_fifty_open_pages_and_many_comparisons_fit_into_memory() {
    let (_turn, bed) = large_cluster().await;
    let depot = Depot::of(World::on(bed, "reg-index").await);
    let start = Instant::now();
    create_owned(&depot.world, MODULES, EACH).await;
    publish(&depot.world).await;
    println!("created after {:?}; an archive has {} bytes", start.elapsed(), documented("m").len());
    let start = Instant::now();
    // The number of connections of one address is not limited then.
    let registry = depot.plain_builder().args(["--trusted-proxy", "127.0.0.1"]).start_ready().await.unwrap();
    println!("{} versions: ready after {:?}", MODULES * EACH, start.elapsed());
    let base = format!("http://{}", registry.registry_address());
    fits(&registry, "at the start");
    list(&depot, &base, "at rest").await;
    fits(&registry, "at rest");
    let start = Instant::now();
    join(open_pages(&depot, &base), list(&depot, &base, "beside pages")).await;
    println!("{DOCUMENTED} pages after {:?}", start.elapsed());
    fits(&registry, "while pages are opened");
    join(open_pages(&depot, &base), list(&depot, &base, "beside known pages")).await;
    fits(&registry, "while known pages are opened");
    compare(&depot, &base).await;
    fits(&registry, "while versions are compared");
}
