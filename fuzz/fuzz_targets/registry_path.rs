//! Paths of requests to the registry, one in each line.
#![no_main]

use opendepot::registry::path::{Route, encoded, route};

libfuzzer_sys::fuzz_target!(|text: &str| {
    for path in text.lines() {
        let Some(found) = route(path) else { continue };
        let (address, release, rest) = match &found {
            Route::Discovery => {
                assert_eq!(path, "/.well-known/terraform.json");
                continue;
            }
            Route::Versions(address) => (address, None, "/versions".to_owned()),
            Route::Module(address, release) => (address, release.as_ref(), String::new()),
            Route::Download(address, release) => (address, Some(release), "/download".to_owned()),
            Route::Archive(archive) => {
                let rest = format!("/archive/{}/{}", archive.link, encoded(&archive.file));
                (&archive.address, Some(&archive.release), rest)
            }
        };
        // The same bytes in the canonical spelling ask for the same thing: nothing is decoded twice, and no address has two
        // spellings.
        let address = address.to_string();
        assert_eq!(address.split('/').count(), 3);
        assert!(path.starts_with(&format!("/v1/modules/{address}")), "{path} is {address}");
        assert!(
            address.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_/".contains(&byte)),
            "{address}"
        );
        let release =
            release.map(|release| format!("/{}", encoded(&release.to_string()))).unwrap_or_default();
        let canonical = format!("/v1/modules/{address}{release}{rest}");
        assert_eq!(route(&canonical).as_ref(), Some(&found), "{canonical}");
    }
});
