//! Zip archives: those that start like one as they come, and everything else as a list of entries that is packed as a zip
//! and as a tar.gz. No mutation of names would ever get past what a zip says twice by itself.
#![no_main]

libfuzzer_sys::fuzz_target!(|raw: &[u8]| {
    if raw.starts_with(b"PK") {
        let _ = opendepot_fuzz::check_archive(raw);
    } else {
        opendepot_fuzz::entries::check(raw);
    }
});
