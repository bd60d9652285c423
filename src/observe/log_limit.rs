//! A limit for a log line that the same cause would repeat.

use std::time::Duration;

use tokio::time::Instant;

/// At most one line in this time.
const INTERVAL: Duration = Duration::from_mins(1);

/// Counts events of one kind, and limits how often they are logged.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogLimit {
    count: u64,
    logged: Option<Instant>,
}

impl LogLimit {
    /// Counts one more. Returns the number since the last line if there has been no line for a minute.
    pub(crate) fn add(&mut self) -> Option<u64> {
        self.add_at(Instant::now())
    }

    fn add_at(&mut self, now: Instant) -> Option<u64> {
        self.count += 1;
        let is_due = self.logged.is_none_or(|logged| now.duration_since(logged) >= INTERVAL);
        is_due.then(|| {
            self.logged = Some(now);
            std::mem::take(&mut self.count)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_event_is_logged_and_then_one_line_a_minute_with_the_number() {
        let (mut limit, start) = (LogLimit::default(), Instant::now());
        let mut at = |seconds| limit.add_at(start + Duration::from_secs(seconds));
        assert_eq!([at(0), at(1), at(59)], [Some(1), None, None]);
        assert_eq!([at(60), at(119), at(121)], [Some(3), None, Some(2)]);
    }
}
