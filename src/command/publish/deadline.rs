//! How long a run may take, and the repetition of requests until then.

use std::time::Duration;

use tokio::time::Instant;

use super::error::PublishError;

/// Pause between two requests for the same object.
pub(super) const PAUSE: Duration = Duration::from_secs(1);
/// The time that each request has at least, so that a run whose time is over ends with what it finds.
const LEAST: Duration = Duration::from_secs(1);

/// When a run ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline(Instant);

impl Deadline {
    pub(super) fn new(at: Instant) -> Self {
        Self(at)
    }

    /// The same, but at most so much later than now.
    pub(super) fn at_most(self, limit: Duration) -> Self {
        Self(self.0.min(Instant::now() + limit))
    }

    pub(super) fn is_over(self) -> bool {
        Instant::now() >= self.0
    }

    /// When a request that is sent now is given up.
    pub(super) fn of_request(self) -> Instant {
        self.0.max(Instant::now() + LEAST)
    }

    /// Repeats a request until the deadline while the API server does not answer, as during its upgrade.
    pub(super) async fn repeat<T>(
        self,
        mut request: impl AsyncFnMut() -> Result<T, PublishError>,
    ) -> Result<T, PublishError> {
        let mut is_first = true;
        loop {
            match request().await {
                Err(error) if error.is_transient() && !self.is_over() => {
                    if is_first {
                        eprintln!("{error}: trying again");
                    }
                    is_first = false;
                    tokio::time::sleep(PAUSE).await;
                }
                result => return result,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unanswered() -> PublishError {
        PublishError::Unanswered { doing: "reading".into(), message: "no answer".into() }
    }

    #[tokio::test]
    async fn only_what_is_not_answered_is_repeated_and_only_until_the_deadline() {
        let refused = || PublishError::Refused { doing: "reading".into(), message: "no".into() };
        for (seconds, mut answers, expected) in [
            (60, vec![Ok(1), Err(unanswered())], Ok(1)),
            (60, vec![Ok(1), Err(refused())], Err("reading failed: no")),
            (0, vec![Ok(1), Err(unanswered())], Err("reading failed: no answer")),
        ] {
            let deadline = Deadline::new(Instant::now() + Duration::from_secs(seconds));
            let result = deadline.repeat(async || answers.pop().unwrap_or(Ok(2))).await;
            assert_eq!(result.map_err(|error| error.to_string()), expected.map_err(str::to_owned));
            assert!(deadline.of_request() > Instant::now());
        }
    }
}
