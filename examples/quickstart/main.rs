//! The whole job, on this machine, with nothing installed but Rust, Go and git:
//!
//! ```text
//! cargo run --example quickstart                the story, with a list at the end of what it proved
//! cargo run --example quickstart -- --keep      the same, and everything stays up to play with, until Ctrl-C
//! cargo run --example quickstart -- --online    from the real github.com, anonymously
//! ```
//!
//! | file | what it shows |
//! |---|---|
//! | `stage.rs` | what the operator needs to run: Kubernetes, a bucket, GitHub |
//! | `publish.rs` | a Module's life: publish, append, repair, remove |
//! | `install.rs` | Terraform working with the stored objects |
//! | `screen.rs` | headings, commands and proofs on the terminal |

mod install;
mod publish;
mod screen;
mod stage;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use self::screen::{Proofs, failure};
use self::stage::Stage;

/// Runs OpenDepot's main job from end to end on this machine.
#[derive(Debug, Parser)]
#[command(name = "quickstart")]
struct Flags {
    /// Leave everything running afterwards, until Ctrl-C.
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
    let told = story(&stage, proofs).await;
    proofs.list();
    if flags.keep {
        if let Err(error) = &told {
            failure(error);
        }
        stage.keep().await?;
    }
    told
}

async fn story(stage: &Stage, proofs: &mut Proofs) -> Result<()> {
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
