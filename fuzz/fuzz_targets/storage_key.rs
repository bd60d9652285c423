//! Object keys and the rules for them: prefix, module's name, file's name, `--allow-storage`, endpoint, one line each.
#![no_main]

use opendepot::domain::{Endpoint, ObjectLocation, object_key};
use opendepot::storage::{StorageRule, StorageRules};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let mut lines = text.split('\n');
    let mut next = || lines.next().unwrap_or_default();
    let (prefix, module, file, rule, endpoint) = (next(), next(), next(), next(), next());
    let rule = rule.parse::<StorageRule>();
    let url = endpoint.parse::<Endpoint>();
    if let Ok(url) = &url {
        assert_eq!(url.as_str().parse::<Endpoint>().as_ref(), Ok(url));
        let (_, rest) = url.as_str().split_once("://").expect("a scheme");
        let authority = rest.split('/').next().unwrap_or_default();
        assert!(
            !authority.is_empty() && !authority.contains('@') && !rest.contains(['?', '#']),
            "{}",
            url.as_str()
        );
    }
    let Ok(key) = object_key(Some(prefix), module, file) else { return };
    assert!(key.len() <= 1024 && key.ends_with(&format!("{module}/{file}")), "{key:?}");
    assert!(key.split('/').all(|part| !["", ".", ".."].contains(&part)), "{key:?}");
    assert!(!key.chars().any(char::is_control), "{key:?}");

    let location = ObjectLocation {
        bucket: "modules".into(),
        key,
        region: "us-west-2".into(),
        endpoint: (!endpoint.is_empty()).then(|| endpoint.to_owned()),
        force_path_style: None,
    };
    let rules = StorageRules::new(rule.into_iter().collect(), url.into_iter().collect(), None);
    let allowed = rules.check("team-a", &location);
    if allowed.is_ok() {
        assert!(location.endpoint.is_none() || endpoint.parse::<Endpoint>().is_ok());
        assert!(rules.allows("team-a", &location.bucket, &location.key));
    }
});
