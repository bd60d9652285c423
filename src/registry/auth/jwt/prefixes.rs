//! Prefixes of users and groups. They keep the identities of one issuer apart from those of others, and from Kubernetes' own.

/// What no issuer's identity may begin with.
const RESERVED: [&str; 2] = ["system:", "opendepot:"];

/// Refuses prefixes with which an identity of one issuer could be one of another. `issuers` holds the prefixes of each.
pub(super) fn check(issuers: &[Vec<&str>]) -> Result<(), String> {
    for (number, prefixes) in issuers.iter().enumerate() {
        for prefix in prefixes {
            against_reserved(prefix).map_err(|problem| format!("jwt[{number}].claimMappings: {problem}"))?;
            if let Some((other, clash)) = others(issuers, number).find(|(_, clash)| overlap(prefix, clash)) {
                return Err(format!(
                    "jwt[{number}].claimMappings: the prefix {prefix:?} and {clash:?} of jwt[{other}] could make the same \
                     name: write prefixes of which none begins another"
                ));
            }
        }
    }
    Ok(())
}

fn against_reserved(prefix: &str) -> Result<(), String> {
    if prefix.chars().any(char::is_control) {
        return Err("a prefix has a control character".into());
    }
    match RESERVED.iter().find(|reserved| overlap(prefix, reserved)) {
        Some(reserved) => Err(format!(
            "the prefix {prefix:?} could make names that begin with {reserved}: write one such as 'github:'"
        )),
        None => Ok(()),
    }
}

fn others<'a>(issuers: &'a [Vec<&'a str>], number: usize) -> impl Iterator<Item = (usize, &'a str)> {
    let others = issuers.iter().enumerate().filter(move |(other, _)| *other != number);
    others.flat_map(|(other, prefixes)| prefixes.iter().map(move |prefix| (other, *prefix)))
}

fn overlap(one: &str, other: &str) -> bool {
    one.starts_with(other) || other.starts_with(one)
}
