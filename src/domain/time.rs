//! Times rounded to whole seconds.

use jiff::Timestamp;

/// The next whole second: a time that is printed for a reader, and never too early.
pub(crate) fn whole_second_after(at: Timestamp) -> Timestamp {
    let up = i64::from(at.subsec_nanosecond() > 0);
    Timestamp::from_second(at.as_second().saturating_add(up)).unwrap_or(at)
}
