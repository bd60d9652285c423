//! Reads the files of mounted Secrets again while the registry runs.

use std::time::Duration;

/// Interval at which files of mounted Secrets are read.
pub const INTERVAL: Duration = Duration::from_secs(30);

/// Calls `read` at each interval, apart from the threads that answer requests, as long as it is polled. A mounted Secret changes by
/// a new symbolic link, which file notifications do not report. Calls `log` with each problem, and once with one that stays.
pub(super) async fn read_again<E: ToString + Send + 'static>(
    interval: Duration,
    read: impl Fn() -> Result<(), E> + Clone + Send + 'static,
    log: impl Fn(&str),
) {
    let mut reported: Option<String> = None;
    loop {
        tokio::time::sleep(interval).await;
        let Ok(outcome) = tokio::task::spawn_blocking(read.clone()).await else { continue };
        let problem = outcome.err().map(|error| error.to_string());
        if let Some(problem) = problem.as_ref().filter(|_| problem != reported) {
            log(problem);
        }
        reported = problem;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::channel;

    use super::*;
    use crate::domain::Mutex;

    #[tokio::test]
    async fn a_problem_is_logged_once_and_another_one_too() {
        let (short, missing) = (Some("short"), Some("missing"));
        let outcomes = [None, short, short, missing, None, missing, Some("end")];
        let outcomes = Arc::new(Mutex::new(outcomes.into_iter()));
        let read = move || outcomes.lock().next().flatten().map_or(Ok(()), Err);
        let (log, logged) = channel();
        let log = move |problem: &str| log.send(problem.to_owned()).unwrap();
        let reading = tokio::spawn(read_again(Duration::from_millis(1), read, log));
        let until_the_end = async {
            let mut all: Vec<String> = Vec::new();
            while all.last().is_none_or(|last| last != "end") {
                tokio::time::sleep(Duration::from_millis(1)).await;
                all.extend(logged.try_iter());
            }
            all
        };
        let all = tokio::time::timeout(Duration::from_secs(10), until_the_end).await.unwrap();
        assert_eq!(all, ["short", "missing", "missing", "end"]);
        reading.abort();
    }
}
