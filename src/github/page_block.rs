//! Meaning of a web page with status 403 in answer to an anonymous request.
//!
//! GitHub's site sends such pages after too many requests from one address, and a gateway or GitHub may send them for a single
//! repository. Only a page for a second repository shows that all anonymous requests are blocked.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::limit_times::{Now, untimed};

/// Pages older than this are forgotten.
const FORGOTTEN: Duration = Duration::from_hours(24);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PageMeaning {
    /// This repository waits until then.
    Repository(Instant),
    /// All anonymous requests to the host wait for this long.
    Account(Duration),
    /// Only this repository is blocked, and others are served: no rate limit.
    Forbidden,
}

/// The pages of one account.
#[derive(Debug, Default)]
pub(super) struct PageBlocks {
    /// When the latest request that returned an archive was sent.
    served: Option<Instant>,
    repositories: HashMap<String, Paged>,
    /// Waits of the whole account since then.
    strikes: u32,
}

#[derive(Debug)]
struct Paged {
    /// When the page arrived that the next one is compared with.
    at: Instant,
    latest: Instant,
    until: Instant,
    strikes: u32,
}

/// Ages of earlier answers when a page arrives.
#[derive(Debug, Clone, Copy)]
struct Known {
    /// This repository's previous page.
    before: Option<Duration>,
    /// The latest page of another repository.
    other: Option<Duration>,
    /// The latest request that returned an archive of another repository.
    served: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    Repository,
    Account,
    Forbidden,
}

impl Known {
    fn scope(self) -> Scope {
        let since = |page: Duration| self.served.is_none_or(|served| served > page);
        if self.before.is_some_and(|page| !since(page)) {
            Scope::Forbidden
        } else if self.other.is_some_and(since) {
            Scope::Account
        } else {
            Scope::Repository
        }
    }
}

impl PageBlocks {
    /// Until when requests for the repository have to wait.
    pub(super) fn wait(&self, repository: &str, now: Instant) -> Option<Instant> {
        self.repositories.get(repository).map(|page| page.until).filter(|until| *until > now)
    }

    /// Records a page in answer to a request that was sent at `sent`. `open`: the account does not wait.
    pub(super) fn observe(&mut self, repository: &str, sent: Instant, clock: Now, open: bool) -> PageMeaning {
        let now = clock.monotonic;
        self.repositories.retain(|_, page| age(page.latest, now) < FORGOTTEN);
        if let Some(page) = self.repositories.get(repository)
            && sent < page.latest
            && page.until > now
        {
            // The request was sent before the repository's wait began, so the page does not count.
            return PageMeaning::Repository(page.until);
        }
        let others = self.repositories.iter().filter(|(name, _)| *name != repository);
        let known = Known {
            before: self.repositories.get(repository).map(|page| age(page.at, now)),
            other: others.map(|(_, page)| age(page.at, now)).min(),
            served: self.served.map(|at| age(at, now)),
        };
        let fresh = Paged { at: now, latest: now, until: now, strikes: 0 };
        let page = self.repositories.entry(repository.to_owned()).or_insert(fresh);
        page.latest = now;
        match known.scope() {
            // Keep `at`, so that the archives that were served since then still show that only this repository is blocked.
            Scope::Forbidden => PageMeaning::Forbidden,
            Scope::Account => {
                page.at = now;
                // Answers to requests that were sent together count as one strike.
                self.strikes += u32::from(open);
                PageMeaning::Account(untimed(self.strikes))
            }
            Scope::Repository => {
                page.at = now;
                page.strikes += 1;
                page.until = clock.end_of(untimed(page.strikes));
                PageMeaning::Repository(page.until)
            }
        }
    }

    /// Records that a request sent at `sent` returned an archive.
    pub(super) fn served(&mut self, repository: &str, sent: Instant) {
        self.served = self.served.max(Some(sent));
        self.repositories.remove(repository);
        self.strikes = 0;
    }
}

fn age(at: Instant, now: Instant) -> Duration {
    now.saturating_duration_since(at)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    fn on_both_clocks(monotonic: Instant) -> Now {
        Now { monotonic, wall: Timestamp::UNIX_EPOCH }
    }

    #[test]
    fn a_page_counts_for_its_repository_until_another_has_one_too() {
        for (what, before, other, served, scope) in [
            ("the first page", None, None, None, Scope::Repository),
            ("the first since an archive", None, None, Some(5), Scope::Repository),
            ("again, and nothing was served since", Some(60), None, Some(61), Scope::Repository),
            ("again, and nothing was ever served", Some(60), None, None, Scope::Repository),
            ("again, although another was served since", Some(60), None, Some(59), Scope::Forbidden),
            ("again at the time of the other request", Some(60), None, Some(60), Scope::Forbidden),
            ("a second repository", None, Some(10), None, Scope::Account),
            ("a second one since an archive", None, Some(10), Some(11), Scope::Account),
            ("a second one, with an archive in between", None, Some(10), Some(9), Scope::Repository),
            ("both again", Some(60), Some(10), Some(61), Scope::Account),
            ("both again, one was served in between", Some(60), Some(10), Some(30), Scope::Forbidden),
        ] {
            let seconds = |age: Option<u64>| age.map(Duration::from_secs);
            let known = Known { before: seconds(before), other: seconds(other), served: seconds(served) };
            assert_eq!(known.scope(), scope, "{what}");
        }
    }

    #[test]
    fn waits_double_until_the_repository_is_served() {
        let (mut pages, start) = (PageBlocks::default(), Instant::now());
        let at = |minutes: u32| start + MINUTE * minutes;
        for (minutes, wait) in [(0, 1), (1, 2), (3, 4), (7, 8)] {
            let now = at(minutes);
            let until = now + MINUTE * wait;
            assert_eq!(pages.observe("a", now, on_both_clocks(now), true), PageMeaning::Repository(until));
            assert_eq!(pages.wait("a", now), Some(until));
            // A request that was sent at the same time gets the same answer.
            let sent = now.checked_sub(MINUTE / 2).unwrap();
            assert_eq!(pages.observe("a", sent, on_both_clocks(now), true), PageMeaning::Repository(until));
            assert_eq!(pages.wait("a", now), Some(until));
            assert_eq!(pages.wait("b", now), None);
        }
        pages.served("a", at(15));
        let meaning = pages.observe("a", at(16), on_both_clocks(at(16)), true);
        assert_eq!(meaning, PageMeaning::Repository(at(17)));
    }

    #[test]
    fn an_account_waits_longer_each_time_and_counts_answers_sent_together_once() {
        let (mut pages, start) = (PageBlocks::default(), Instant::now());
        let at = |minutes: u32| start + MINUTE * minutes;
        let observe = |pages: &mut PageBlocks, name: &str, minutes: u32, open: bool| {
            pages.observe(name, at(minutes), on_both_clocks(at(minutes)), open)
        };
        observe(&mut pages, "a", 0, true);
        for (name, open) in [("b", true), ("c", false), ("d", false)] {
            assert_eq!(observe(&mut pages, name, 0, open), PageMeaning::Account(MINUTE));
        }
        assert_eq!(observe(&mut pages, "a", 1, true), PageMeaning::Account(MINUTE * 2));
        assert_eq!(observe(&mut pages, "c", 3, true), PageMeaning::Account(MINUTE * 4));
        // Served again: the next block begins with one repository, and "a" is blocked alone.
        pages.served("b", at(7));
        assert_eq!(observe(&mut pages, "e", 8, true), PageMeaning::Repository(at(9)));
        for minutes in [9, 70, 130] {
            assert_eq!(observe(&mut pages, "a", minutes, true), PageMeaning::Forbidden);
        }
    }

    #[test]
    fn an_archive_that_was_asked_for_before_the_block_shows_nothing() {
        let (mut pages, start) = (PageBlocks::default(), Instant::now());
        let later = start + MINUTE;
        let now = on_both_clocks(later);
        pages.observe("a", start, now, true);
        pages.served("b", start);
        pages.served("d", later);
        pages.served("e", start);
        assert_eq!(pages.observe("a", later, now, true), PageMeaning::Forbidden, "the latest request counts");
        pages = PageBlocks::default();
        pages.observe("a", start, now, true);
        pages.served("b", start);
        assert_eq!(pages.observe("c", later, now, true), PageMeaning::Account(MINUTE));
    }

    #[test]
    fn pages_of_yesterday_are_forgotten() {
        let (mut pages, start) = (PageBlocks::default(), Instant::now());
        pages.observe("a", start, on_both_clocks(start), true);
        let now = start + FORGOTTEN;
        let meaning = pages.observe("b", now, on_both_clocks(now), true);
        assert_eq!(meaning, PageMeaning::Repository(now + MINUTE));
        assert_eq!(pages.repositories.len(), 1);
    }
}
