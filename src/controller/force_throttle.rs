//! A throttle for forced syncs, so that a client which forces in a loop causes no storm of downloads.
//!
//! The first three within a minute start at once. Each further one waits: 10 seconds, doubling up to 10 minutes.

use std::time::{Duration, Instant};

/// Forces within this window are counted.
const WINDOW: Duration = Duration::from_mins(1);
/// Number of forces within the window that start at once.
const FREE_FORCES: usize = 3;
/// First pause of the forces after that. It doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_mins(10);

/// Recent forced syncs of one object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ForceThrottle {
    last: Option<String>,
    recent: Vec<Instant>,
    pause: Option<Duration>,
    free_at: Option<Instant>,
}

impl ForceThrottle {
    /// Admits the force `id` and counts it once, or returns how long it has to wait.
    pub fn admit(&mut self, id: &str, now: Instant) -> Result<(), Duration> {
        if self.last.as_deref() == Some(id) {
            return Ok(());
        }
        if let Some(at) = self.free_at.filter(|at| *at > now) {
            return Err(at.duration_since(now));
        }
        let waited = self.free_at.take().is_some();
        // A client that forces in a loop may wait out each pause, so the window includes the last pause.
        let window = WINDOW + self.pause.unwrap_or_default();
        self.recent.retain(|at| now.duration_since(*at) < window);
        if self.recent.is_empty() {
            self.pause = None;
        }
        if self.recent.len() >= FREE_FORCES && !waited {
            let pause = self.pause.map_or(FIRST_PAUSE, |p| (p * 2).min(LONGEST_PAUSE));
            self.pause = Some(pause);
            self.free_at = Some(now + pause);
            return Err(pause);
        }
        self.last = Some(id.to_owned());
        self.recent.push(now);
        if self.recent.len() > FREE_FORCES {
            self.recent.remove(0);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;

    fn at(second: u64) -> Instant {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        *START + Duration::from_secs(second)
    }

    /// Asks at each time that the throttle names, as a loop would, and gives the times of the syncs.
    fn loop_for(seconds: u64) -> Vec<u64> {
        let (mut forces, mut now, mut done) = (ForceThrottle::default(), 0, Vec::new());
        while now < seconds {
            match forces.admit(&now.to_string(), at(now)) {
                Ok(()) => {
                    done.push(now);
                    now += 1;
                }
                Err(pause) => now += pause.as_secs(),
            }
            // Asking again for the same force does not count.
            if let Some(last) = forces.last.clone() {
                assert_eq!(forces.admit(&last, at(now)), Ok(()));
            }
        }
        done
    }

    #[test]
    fn three_forces_are_free_and_a_loop_slows_down_to_one_in_ten_minutes() {
        let done = loop_for(7200);
        assert_eq!(done[..3], [0, 1, 2]);
        let pauses: Vec<u64> = done[2..].windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(pauses[..4], [11, 21, 41, 81], "{pauses:?}");
        assert!(pauses.iter().all(|p| *p <= 601) && pauses.ends_with(&[601]), "{pauses:?}");
    }

    #[test]
    fn forces_a_minute_apart_are_never_held_back() {
        let mut forces = ForceThrottle::default();
        for minute in 0..50 {
            assert_eq!(forces.admit(&minute.to_string(), at(minute * 60)), Ok(()));
        }
    }
}
