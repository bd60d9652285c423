//! Requests of unknown origin: `Authorization`, the keys of an identity provider, and the settings for it, with NUL between them.
#![no_main]

libfuzzer_sys::fuzz_target!(|raw: &[u8]| {
    let mut parts = raw.splitn(3, |byte| *byte == 0);
    let mut part = || parts.next().unwrap_or_default();
    let (value, keys, config) = (part(), part(), part());
    opendepot::registry::auth::fuzzing::token(value, keys, &String::from_utf8_lossy(config));
});
