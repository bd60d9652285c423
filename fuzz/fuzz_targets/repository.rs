//! Addresses of repositories; a tag may follow in the second line.
#![no_main]

use opendepot::domain::Repository;
use opendepot::github::fuzzing;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let (url, tag) = text.split_once('\n').unwrap_or((text, "v1.0.0"));
    let parsed = Repository::parse(url);
    let Ok(repository) = &parsed else {
        let message = parsed.unwrap_err().to_string();
        assert!(message.len() < 2000 && !message.chars().any(char::is_control), "{message:?}");
        return;
    };
    assert_eq!(Repository::parse(&repository.to_string()).as_ref(), Ok(repository));
    assert!(repository.is_owned_by(repository.owner()) && !repository.host().is_empty());
    fuzzing::addresses(repository, tag);
});
