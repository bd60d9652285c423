//! Zip archives, as they come.
#![no_main]

libfuzzer_sys::fuzz_target!(|raw: &[u8]| opendepot_fuzz::check_archive(raw));
