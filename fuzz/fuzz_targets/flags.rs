//! The arguments of `opendepot run`, one in each line.
#![no_main]

use clap::Parser as _;
use opendepot::cli::{Cli, Command};
use opendepot::domain::Repository;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let arguments = ["opendepot", "run"].into_iter().chain(text.lines());
    let run = match Cli::try_parse_from(arguments) {
        Ok(Cli { command: Command::Run(run) }) => run,
        Ok(_) => panic!("another command"),
        Err(error) => return drop(error.to_string()),
    };
    assert!(
        run.max_fetches > 0
            && run.archives.max_archive_size > 0
            && run.archives.max_unpacked_size > 0
            && run.archives.max_entries > 0
    );
    assert!(run.verify_interval.is_zero() || run.verify_interval.as_secs() > 0);
    for namespace in &run.namespaces {
        assert!((1..=63).contains(&namespace.len()) && !namespace.contains('/'), "{namespace:?}");
    }
    for host in &run.github_host {
        assert!(Repository::parse(&format!("https://{host}/owner/name")).is_ok(), "{host:?}");
    }
});
