//! Prefixes of users and groups. They keep the identities of one issuer apart from those of others, and from Kubernetes' own.

/// What no issuer's identity may begin with.
const RESERVED: [&str; 2] = ["system:", "opendepot:"];

/// Refuses prefixes with which an identity of one issuer could be one of another. Each prefix has the number of its issuer.
pub(super) fn check(prefixes: &[(usize, &str)]) -> Result<(), String> {
    for (number, prefix) in prefixes {
        against_reserved(prefix).map_err(|problem| format!("jwt[{number}].claimMappings: {problem}"))?;
        let clash = prefixes.iter().find(|(other, clash)| other != number && overlap(prefix, clash));
        if let Some((other, clash)) = clash {
            return Err(format!(
                "jwt[{number}].claimMappings: the prefix {prefix:?} and {clash:?} of jwt[{other}] could make the same \
                 name: write prefixes of which none begins another"
            ));
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

fn overlap(one: &str, other: &str) -> bool {
    one.starts_with(other) || other.starts_with(one)
}
