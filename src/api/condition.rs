//! Conditions as kstatus reads them: `Ready`, `Reconciling`, `Stalled`.
//!
//! Pure: the clock is an argument. Transition times are whole seconds, as the API server stores them, and change only when
//! a condition's status changes (API conventions, "Typical status properties").

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::domain::text::cut;

/// Longest message in bytes. Longer ones are truncated, because conditions are read in a terminal.
pub const MAX_MESSAGE: usize = 700;

/// The conditions that [`set`] writes. Others belong to other software.
pub const OURS: [&str; 3] = ["Ready", "Reconciling", "Stalled"];

/// How a reconcile ended, as the three conditions show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done: `Ready=True`.
    Ready,
    /// Work is in progress or will be retried: `Ready=False`, `Reconciling=True`.
    Working,
    /// Requires manual action: `Ready=False`, `Stalled=True`.
    Stalled,
    /// Suspended: `Ready=False`, neither reconciling nor stalled.
    Idle,
}

/// The conditions after `outcome`, from those before it.
pub fn set(
    before: &[Condition],
    outcome: &Outcome,
    reason: &str,
    message: &str,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    // The two abnormal conditions have a message only while they are true: a stale one beside `False` misleads.
    let rows = [
        ("Ready", Outcome::Ready, (reason, message)),
        ("Reconciling", Outcome::Working, ("Idle", "")),
        ("Stalled", Outcome::Stalled, ("NotStalled", "")),
    ];
    let ours = rows.into_iter().map(|(type_, holds_for, otherwise)| {
        let (status, (reason, message)) =
            if *outcome == holds_for { ("True", (reason, message)) } else { ("False", otherwise) };
        condition(before, (type_, status), reason, message, generation, now)
    });
    ours.chain(before.iter().filter(|c| !OURS.contains(&c.type_.as_str())).cloned()).collect()
}

/// One condition. It keeps the transition time of the one before it if that has the same status.
pub fn condition(
    before: &[Condition],
    (type_, status): (&str, &str),
    reason: &str,
    message: &str,
    generation: Option<i64>,
    now: Timestamp,
) -> Condition {
    let old = find(before, type_).filter(|old| old.status == status);
    Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: cut(message, MAX_MESSAGE),
        observed_generation: generation,
        last_transition_time: old
            .map_or_else(|| Time(whole_seconds(now)), |old| old.last_transition_time.clone()),
    }
}

pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == type_)
}

/// `now` as the API server stores it, in whole seconds.
pub fn whole_seconds(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn each_outcome_is_one_row_of_the_kstatus_table() {
        for (outcome, expected) in [
            (Outcome::Ready, ["True", "False", "False"]),
            (Outcome::Working, ["False", "True", "False"]),
            (Outcome::Stalled, ["False", "False", "True"]),
            (Outcome::Idle, ["False", "False", "False"]),
        ] {
            let conditions = set(&[], &outcome, "Why", "what", Some(3), at(10));
            let statuses: Vec<&str> = ["Ready", "Reconciling", "Stalled"]
                .iter()
                .map(|t| &*find(&conditions, t).unwrap().status)
                .collect();
            assert_eq!(statuses, expected, "{outcome:?}");
            assert!(conditions.iter().all(|c| c.observed_generation == Some(3) && !c.reason.is_empty()));
        }
    }

    #[test]
    fn transition_times_move_only_on_a_flip_and_setting_again_changes_nothing() {
        let first = set(&[], &Outcome::Working, "A", "a", Some(1), at(10));
        let second = set(&first, &Outcome::Working, "B", "b", Some(2), at(20));
        assert!(second.iter().all(|c| c.last_transition_time.0 == at(10)));
        let third = set(&second, &Outcome::Ready, "C", "c", Some(2), at(30));
        assert_eq!(find(&third, "Ready").unwrap().last_transition_time.0, at(30));
        assert_eq!(find(&third, "Stalled").unwrap().last_transition_time.0, at(10));
        assert_eq!(set(&third, &Outcome::Ready, "C", "c", Some(2), at(99)), third);
    }

    #[test]
    fn conditions_of_others_are_kept_and_messages_are_cut_at_a_character() {
        let other = Condition {
            type_: "Scanned".into(),
            ..set(&[], &Outcome::Ready, "R", "", None, at(1))[0].clone()
        };
        let after = set(std::slice::from_ref(&other), &Outcome::Ready, "R", &"ü".repeat(2000), None, at(2));
        assert!(after.contains(&other));
        assert!(find(&after, "Ready").unwrap().message.len() <= MAX_MESSAGE);
    }

    /// One write of the conditions.
    fn write() -> impl Strategy<Value = (Outcome, String, String, Option<i64>, Timestamp)> {
        use Outcome::{Idle, Ready, Stalled, Working};
        let outcome = proptest::sample::select(vec![Ready, Working, Stalled, Idle]);
        let moment = (0..4_000_000_000_i64, 0..1_000_000_000_i32);
        let now = moment.prop_map(|(second, nanosecond)| Timestamp::new(second, nanosecond).unwrap());
        (outcome, "[A-Z][A-Za-z]{0,8}", "(?s).{0,900}", proptest::option::of(1..9_i64), now)
    }

    proptest! {
        #[test]
        fn whatever_is_written_times_move_on_a_flip_only_and_kstatus_understands(
            writes in proptest::collection::vec(write(), 1..8),
        ) {
            let other = Condition { type_: "Scanned".into(), ..set(&[], &Outcome::Idle, "R", "", None, at(1))[0].clone() };
            let mut before = vec![other.clone()];
            for (outcome, reason, message, generation, now) in writes {
                let after = set(&before, &outcome, &reason, &message, generation, now);
                let holds = |type_: &str| find(&after, type_).unwrap().status == "True";
                prop_assert_eq!(holds("Ready"), outcome == Outcome::Ready);
                prop_assert!(["Ready", "Reconciling", "Stalled"].iter().filter(|t| holds(t)).count() <= 1);
                prop_assert_eq!(after.len(), 4, "each type once");
                prop_assert_eq!(find(&after, "Scanned"), Some(&other));
                for condition in after.iter().filter(|c| c.type_ != "Scanned") {
                    prop_assert!(["True", "False"].contains(&&*condition.status) && !condition.reason.is_empty());
                    prop_assert!(condition.message.len() <= MAX_MESSAGE);
                    prop_assert_eq!(condition.observed_generation, generation);
                    let old = find(&before, &condition.type_).filter(|old| old.status == condition.status);
                    let since = old.map_or_else(|| whole_seconds(now), |old| old.last_transition_time.0);
                    prop_assert_eq!(condition.last_transition_time.0, since, "{}", condition.type_);
                    prop_assert_eq!(since.subsec_nanosecond(), 0, "as the API server keeps it");
                }
                // Written by the API server and computed again a day later: nothing is left to write.
                let kept: Vec<Condition> = serde_json::from_value(serde_json::json!(after)).unwrap();
                let later = now + jiff::SignedDuration::from_hours(24);
                prop_assert_eq!(&set(&kept, &outcome, &reason, &message, generation, later), &after);
                before = after;
            }
        }

        #[test]
        fn a_cut_text_is_a_marked_beginning(text in "(?s).{0,60}", max in 3..80_usize) {
            let short = cut(&text, max);
            prop_assert!(short.len() <= max);
            prop_assert!(short == text || text.starts_with(short.strip_suffix('…').unwrap()));
        }
    }
}
