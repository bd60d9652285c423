//! Versions, as they are listed: one line each.
#![no_main]

use std::cmp::Ordering;

use opendepot::api::object_name;
use opendepot::domain::Release;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let releases: Vec<Release> = text.lines().filter_map(|line| Release::parse(line).ok()).collect();
    for release in &releases {
        let written = release.to_string();
        assert_eq!(Release::parse(&written).as_ref().ok(), Some(release));
        assert_eq!(Release::parse(&format!("v{written}")).as_ref().ok(), Some(release));
        assert_eq!(Release::tags(&written), [written.clone(), format!("v{written}")]);
        let name = object_name::version_object("network", release);
        let outer = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let label =
            |l: &str| l.starts_with(outer) && l.ends_with(outer) && l.chars().all(|c| outer(c) || c == '-');
        assert!(name.len() <= 253 && name.split('.').all(label), "{name}");
    }
    for pair in releases.windows(2) {
        let (one, other) = (&pair[0], &pair[1]);
        assert_eq!(one.precedence(other), other.precedence(one).reverse());
        assert_eq!(one.precedence(other) == Ordering::Equal, one == other);
        let same =
            object_name::version_object("network", one) == object_name::version_object("network", other);
        assert_eq!(same, one == other);
    }
});
