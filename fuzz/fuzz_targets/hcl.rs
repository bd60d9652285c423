//! Configurations of modules, whose documentation the registry shows: JSON if they begin with a brace.
#![no_main]

libfuzzer_sys::fuzz_target!(|raw: &[u8]| {
    let source = String::from_utf8_lossy(raw);
    let Ok(folder) = opendepot::registry::docs::fuzzing::declared(&source, source.starts_with('{')) else {
        return;
    };
    // What is shown is a part of what was read; escapes only make it shorter.
    for input in &folder.inputs {
        for text in [&input.type_, &input.default, &input.description].into_iter().flatten() {
            assert!(text.len() <= source.len() * 4 + 8, "{text}");
        }
    }
    let same = opendepot::registry::docs::fuzzing::is_same(folder);
    assert!(same, "a module differs from itself");
});
