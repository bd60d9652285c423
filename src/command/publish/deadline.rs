//! How long a run may take, and the repetition of requests until then.

use std::time::Duration;

use tokio::time::Instant;

use super::error::PublishError;
use crate::command::output;

/// Pause between two requests for the same object.
pub(super) const PAUSE: Duration = Duration::from_secs(1);
/// The minimum time for each request: after the deadline, the last request still shows the reason of the failure.
const LEAST: Duration = Duration::from_secs(1);

/// When a run ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline(pub Instant);

impl Deadline {
    /// The same, but at most this long from now.
    pub(super) fn at_most(self, limit: Duration) -> Self {
        Self(self.0.min(Instant::now() + limit))
    }

    pub(super) fn is_over(self) -> bool {
        Instant::now() >= self.0
    }

    /// When a request that is sent now times out.
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
                    if std::mem::take(&mut is_first) {
                        output::note(format_args!("{error}; retrying"));
                    }
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

    fn failed(message: &str, is_transient: bool) -> PublishError {
        PublishError::Request { doing: "reading".into(), message: message.into(), is_transient }
    }

    #[tokio::test]
    async fn only_what_is_not_answered_is_repeated_and_only_until_the_deadline() {
        for (seconds, mut answers, expected) in [
            (60, vec![Ok(1), Err(failed("no answer", true))], Ok(1)),
            (60, vec![Ok(1), Err(failed("no", false))], Err("reading failed: no")),
            (0, vec![Ok(1), Err(failed("no answer", true))], Err("reading failed: no answer")),
        ] {
            let deadline = Deadline(Instant::now() + Duration::from_secs(seconds));
            let result = deadline.repeat(async || answers.pop().unwrap_or(Ok(2))).await;
            assert_eq!(result.map_err(|error| error.to_string()), expected.map_err(str::to_owned));
            assert!(deadline.of_request() > Instant::now());
        }
    }
}
