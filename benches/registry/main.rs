//! The registry's answers, side by side with what they could cost at best and at worst, on the same machine and in one run: a
//! handler that gives the same bytes without any work, curl straight to the store, and the S3 requests of a registry without an
//! index. docs/performance.md explains each line.
//!
//! `cargo bench --bench registry [-- answers|store|stream|pages|live]`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::cast_precision_loss)]

mod answers;
mod client;
mod depot;
mod live;
mod pages;
mod store;
mod table;

use std::ffi::OsString;
use std::process::{Command, Stdio};

use opendepot::cli::{self, Cli};
use opendepot::observe::telemetry::{self, LogFormat};
use opendepot::registry::docs;

use crate::depot::Depot;

/// The same as the binary's, since it decides much of what an answer costs.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Versions of one module.
const VERSIONS: usize = 1000;
/// Modules of so many versions in the large registry.
const MODULES: usize = 10;
const CREDENTIALS: &str = "AWS_SHARED_CREDENTIALS_FILE";

fn main() {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    // The registry reads documentation in a process of its own, which runs this program.
    if arguments.get(1).is_some_and(|command| command == "read-documentation") {
        return read_documentation(&arguments);
    }
    if std::env::var_os(CREDENTIALS).is_none() {
        return in_another_process();
    }
    // The access log is part of what an answer costs. Standard error is discarded, so panics are printed.
    telemetry::install(Some(LogFormat::Json), "info").unwrap();
    std::panic::set_hook(Box::new(|panic| println!("{panic}")));
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let wants = |part: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == part);
    runtime.block_on(async {
        let depot = Depot::start().await;
        depot.publish("mod0", VERSIONS, VERSIONS, b"PK-small".to_vec()).await;
        if wants("answers") {
            answers::beside_a_static_handler(&depot).await;
        }
        if wants("store") {
            store::beside_a_registry_without_an_index(&depot).await;
        }
        if wants("stream") {
            store::streams(&depot).await;
        }
        if wants("pages") {
            pages::warm(&depot).await;
        }
        if wants("live") {
            live::as_it_runs(&depot).await;
        }
    });
}

fn read_documentation(arguments: &[OsString]) {
    if let cli::Command::ReadDocumentation(arguments) = Cli::of_process(arguments).command {
        docs::run(&arguments).unwrap();
    }
}

/// Runs the bench in a process whose environment names a file for S3's credentials, which are known later.
fn in_another_process() {
    let folder = tempfile::tempdir().unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .args(std::env::args().skip(1))
        .env(CREDENTIALS, folder.path().join("credentials"))
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}
