//! The metadata of an object in S3 from any client: `key=value` in each line.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    opendepot::storage::fuzzing::metadata(&pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect());
});
