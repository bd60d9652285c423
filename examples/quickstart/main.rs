//! Runs OpenDepot's workflow from end to end on this machine, which needs only Rust, Go and git:
//!
//! ```text
//! cargo run --example quickstart                all steps, each with its checks
//! cargo run --example quickstart -- --keep      the same, and everything keeps running until Ctrl-C
//! cargo run --example quickstart -- --online    from the real github.com, anonymously
//! ```
//!
//! | file | contents |
//! |---|---|
//! | `stage.rs` | what OpenDepot needs: Kubernetes, a bucket, GitHub |
//! | `registry.rs` | the registry, and what Terraform needs to use it |
//! | `publish.rs` | operations on a Module: publish, append, repair, remove |
//! | `install.rs` | Terraform (or OpenTofu) installs from the registry |
//! | `screen.rs` | headings, commands and checks on the terminal |
//! | `readme.rs` | compares the README with what was printed |

mod install;
mod publish;
mod readme;
mod registry;
mod screen;
mod stage;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use self::install::Consumer;
use self::screen::{Proofs, failure};
use self::stage::Stage;

/// Runs OpenDepot's workflow from end to end on this machine.
#[derive(Debug, Parser)]
#[command(name = "quickstart")]
struct Flags {
    /// Keep everything running afterwards, until Ctrl-C.
    #[arg(long)]
    keep: bool,
    /// Fetch from the real github.com instead of the local one.
    #[arg(long)]
    online: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let flags = Flags::parse();
    let mut proofs = Proofs::default();
    let ended = run(&flags, &mut proofs).await;
    if let Err(error) = &ended {
        failure(error);
    }
    if ended.is_ok() && proofs.hold() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn run(flags: &Flags, proofs: &mut Proofs) -> Result<()> {
    std::env::set_current_dir(env!("CARGO_MANIFEST_DIR"))?;
    let stage = Stage::start(flags.online).await?;
    let outcome = steps(&stage, proofs).await;
    if std::env::var_os("CI").is_some() && !flags.online && outcome.is_ok() {
        readme::compare(&stage.registry.host, proofs)?;
    }
    proofs.list();
    let consumer = outcome?;
    if flags.keep {
        stage.keep(&consumer).await?;
    } else {
        screen::say("\nTo try it yourself: cargo run --example quickstart -- --keep");
    }
    Ok(())
}

async fn steps(stage: &Stage, proofs: &mut Proofs) -> Result<Consumer> {
    publish::first_versions(stage, proofs).await?;
    let consumer = Consumer::new(stage)?;
    consumer.first(stage, proofs)?;
    publish::one_more(stage, proofs)?;
    consumer.upgrade(proofs)?;
    publish::tamper(stage).await?;
    consumer.refuse(proofs)?;
    publish::repair(stage, proofs).await?;
    consumer.again(proofs)?;
    publish::one_less(stage, proofs).await?;
    Ok(consumer)
}
