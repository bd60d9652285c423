//! Log lines about refused identities, with what an administrator needs to permit them. They are limited, since clients can cause
//! any number of refusals.

use std::time::Instant;

use super::identity::{Fields, Identity};
use super::limits::{Limit, LimitKey};
use crate::registry::client::{loggable, loggable_within};

/// Lines each minute about one user in one namespace.
const OF_ONE: u32 = 1;
/// Lines each minute in all.
const IN_ALL: u32 = 100;
/// Groups in a line.
const GROUPS: usize = 16;
/// The longest user or group, in characters. An administrator copies them, and GitHub Actions and GitLab write long ones.
const LONGEST_NAME: usize = 512;

pub(super) struct RefusalLog {
    of_one: Limit,
    in_all: Limit,
}

impl Default for RefusalLog {
    fn default() -> Self {
        Self { of_one: Limit::per_minute(OF_ONE), in_all: Limit::per_minute(IN_ALL) }
    }
}

impl RefusalLog {
    /// Logs that an identity may not download the module `address` of a namespace.
    pub(super) fn refused(&self, identity: &Identity, namespace: &str, address: &str) {
        if !self.is_due(identity, namespace, Instant::now()) {
            return;
        }
        let name = |text: &String| loggable_within(text, LONGEST_NAME);
        let groups: Vec<String> = identity.groups.iter().take(GROUPS).map(name).collect();
        tracing::info!(
            user = name(&identity.user),
            groups = groups.join(", "),
            namespace,
            module = loggable(address),
            "refused; to permit it, bind the ClusterRole opendepot-consumer in this namespace to the user or to one of the groups"
        );
    }

    fn is_due(&self, identity: &Identity, namespace: &str, now: Instant) -> bool {
        let of_one = Fields::new().bytes(&identity.limit_key).text(namespace).digest();
        let in_all = LimitKey::Identity([0; 32]);
        let is_due = self.in_all.check(&in_all, now).is_ok()
            && self.of_one.take(LimitKey::Identity(of_one), now).is_ok();
        if is_due {
            self.in_all.record(in_all, now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::registry::auth::identity::Kind;

    fn user(name: &str, token: &str) -> Identity {
        let extra = BTreeMap::from([("credential-id".to_owned(), vec![token.to_owned()])]);
        Identity::new(Kind::Reviewed, name.into(), None, Vec::new(), extra, None)
    }

    #[test]
    fn one_line_a_minute_is_about_a_user_in_a_namespace() {
        let (log, start) = (RefusalLog::default(), Instant::now());
        for (second, name, token, namespace, is_due) in [
            (0, "ann", "1", "platform", true),
            (1, "ann", "1", "platform", false),
            (2, "ann", "2", "platform", false),
            (3, "ann", "1", "team-a", true),
            (4, "bob", "1", "platform", true),
            (61, "ann", "3", "platform", true),
        ] {
            let now = start + Duration::from_secs(second);
            let logged = log.is_due(&user(name, token), namespace, now);
            assert_eq!(logged, is_due, "{second}: {name} {namespace}");
        }
    }

    #[test]
    fn a_flood_of_refusals_does_not_fill_the_log() {
        let (log, now) = (RefusalLog::default(), Instant::now());
        let due = |number: &u32| log.is_due(&user(&number.to_string(), ""), "platform", now);
        assert_eq!((0..1000).filter(due).count(), 100);
    }
}
