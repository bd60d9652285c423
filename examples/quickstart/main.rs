//! Runs OpenDepot's workflow from end to end on this machine, which needs only Rust, Go and git:
//!
//! ```text
//! cargo run --example quickstart                all steps, with a list of the checks at the end
//! cargo run --example quickstart -- --keep      the same, and everything keeps running until Ctrl-C
//! cargo run --example quickstart -- --online    from the real github.com, anonymously
//! ```
//!
//! | file | contents |
//! |---|---|
//! | `stage.rs` | what the operator needs: Kubernetes, a bucket, GitHub |
//! | `publish.rs` | operations on a Module: publish, append, repair, remove |
//! | `install.rs` | Terraform with the stored objects |
//! | `screen.rs` | headings, commands and checks on the terminal |

mod install;
mod publish;
mod screen;
mod stage;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

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
    proofs.list();
    if flags.keep {
        if let Err(error) = &outcome {
            failure(error);
        }
        stage.keep().await?;
    }
    outcome
}

async fn steps(stage: &Stage, proofs: &mut Proofs) -> Result<()> {
    publish::first_versions(stage, proofs).await?;
    publish::one_more(stage, proofs)?;
    publish::repair(stage, proofs).await?;
    publish::one_less(stage, proofs).await?;
    publish::list_bucket(stage).await?;
    install::real_module(stage, proofs)?;
    if !stage.online {
        install::plan(stage, proofs)?;
    }
    Ok(())
}
