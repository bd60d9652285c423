//! Secrets with credentials for GitHub: App's number, installation's number, private key, token, with NUL between them.
#![no_main]

use std::collections::BTreeMap;

use opendepot::github::{Credential, credential_from_secret};

const KEYS: [&str; 4] = ["githubAppID", "githubInstallID", "githubPrivateKey", "githubToken"];

libfuzzer_sys::fuzz_target!(|raw: &[u8]| {
    let values = raw.splitn(KEYS.len(), |byte| *byte == 0).map(<[u8]>::to_vec);
    let data: BTreeMap<String, Vec<u8>> = KEYS.into_iter().map(str::to_owned).zip(values).collect();
    match credential_from_secret(&data) {
        Ok(Credential::Anonymous) => panic!("a Secret asks for a credential"),
        Ok(credential @ Credential::Token(_)) => {
            assert_eq!(format!("{credential:?}"), format!("{:?}", Credential::Token("x".into())));
        }
        Ok(Credential::App(_)) => {}
        Err(error) => {
            // No message contains a possible secret. (The messages contain the digits of "base64".)
            let message = error.to_string();
            let telling =
                |value: &&Vec<u8>| value.trim_ascii().len() > 16 && value.iter().any(u8::is_ascii_digit);
            for value in data.values().filter(telling) {
                assert!(!message.contains(&*String::from_utf8_lossy(value.trim_ascii())), "{message}");
            }
        }
    }
});
