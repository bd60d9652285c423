//! Archives of which a parser would make hundreds of megabytes, or work for minutes: their pages say so, and no other is harmed.

use std::fmt::Write as _;
use std::io::{Cursor, Write as _};

use anyhow::ensure;
use futures::future::join_all;

use crate::support::registry::Depot;
use crate::support::soon;

/// What the registry itself may need at the peak, in bytes.
const MOST: u64 = 64 << 20;

fn zip_of(file: &str, text: &str) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (file, text) in [("main.tf", "variable \"cidr\" {}\n"), (file, text)] {
        zip.start_file(file, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(text.as_bytes()).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// 250,000 cells that a parser adds to short rows, some kilobytes long.
fn table() -> String {
    format!("{}\n{}\n{}\n", ["a"; 351].join("|"), ["-"; 351].join("|"), "a\n".repeat(748))
}

/// Elements that a parser opens again in each paragraph.
fn unclosed() -> String {
    let open = (0..45).fold(String::new(), |mut open, id| {
        write!(open, "<b id={id}>").unwrap();
        open
    });
    format!("<p>{open}x{}", "<p>x".repeat(60_000))
}

/// Objects in which a parser searches all earlier keys for each one: two, since the memory of a larger one grows beyond the limit
/// on a fast machine.
fn objects() -> String {
    let keys = (0..60_000).fold(String::new(), |mut keys, key| {
        writeln!(keys, "k{key:x}=1").unwrap();
        keys
    });
    ["a", "b"].map(|name| format!("variable \"{name}\" {{\n  default = {{\n{keys}  }}\n}}\n")).concat()
}

/// Texts that are five times as long in HTML.
fn ampersands() -> String {
    let text = "&".repeat(16 << 10);
    (0..60).map(|number| format!("variable \"v{number}\" {{\n  description = \"{text}\"\n}}\n")).collect()
}

#[tokio::test]
async fn documentation_that_needs_much_memory_or_time_harms_no_other() {
    const UNREADABLE: &str = "could not be read from the archive";
    const SLOW: &str = "took too long";
    const LONG: &str = "exceeds the registry's limits";
    let json = format!("{{\"variable\": {{\"a\": {{\"default\": [{}0]}}}}}}", "{\"\":0},".repeat(140_000));
    let chain = format!("variable \"a\" {{\n  default = b{}\n}}\n", ".b".repeat(500_000));
    let odd = [
        ("table", zip_of("README.md", &table().repeat(8)), UNREADABLE),
        ("unclosed", zip_of("README.md", &unclosed()), UNREADABLE),
        ("chain", zip_of("more.tf", &chain), UNREADABLE),
        ("json", zip_of("more.tf.json", &json), UNREADABLE),
        ("object", zip_of("more.tf", &objects()), SLOW),
        ("page", zip_of("more.tf", &ampersands()), LONG),
    ];
    let depot = Depot::new("odd-docs").await;
    depot.publish("net", &[("1.0.0", zip_of("README.md", "# net\n"))]).await;
    for (name, archive, _) in &odd {
        depot.publish(name, &[("1.0.0", archive.clone())]).await;
    }
    let spool = depot.file("spool");
    let registry = depot.registry(&["--spool-dir", spool.to_str().unwrap()]).await;
    let shows = async |module: &str, text: &str| {
        let url = format!(
            "https://{}/modules/{}/{module}/aws/1.0.0",
            registry.registry_address(),
            depot.world.name
        );
        soon(|| async {
            let page = depot.get(&url, &[]).await?.text();
            ensure!(page.contains(text), "{module}: {page}");
            Ok(())
        })
        .await;
    };
    let ordinary = shows("net", "id=\"input_cidr\"");
    futures::join!(ordinary, join_all(odd.iter().map(|(name, _, text)| shows(name, text))));
    let memory = registry.memory().unwrap();
    assert!(memory.peak_of_release() <= MOST, "{memory:?}");
    soon(|| async {
        let folder = std::fs::read_dir(&spool)?.next().expect("one for the process")?;
        let left: Vec<_> = std::fs::read_dir(folder.path())?.map(|file| file.unwrap().file_name()).collect();
        ensure!(left == ["in-use"], "{left:?}");
        Ok(())
    })
    .await;
}
