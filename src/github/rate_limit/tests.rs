use std::sync::LazyLock;

use http::{HeaderName, HeaderValue};
use jiff::{SignedDuration, fmt::rfc2822};

use super::{super::credential::Identity, *};

const NOW: i64 = 1_800_000_000;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

fn wall(seconds: i64) -> Timestamp {
    Timestamp::from_second(NOW + seconds).unwrap()
}

fn at(seconds: u32) -> Now {
    Now { monotonic: *START + Duration::from_secs(seconds.into()), wall: wall(seconds.into()) }
}

fn headers(pairs: &[(&'static str, String)]) -> HeaderMap {
    pairs.iter().map(|(k, v)| (HeaderName::from_static(k), HeaderValue::from_str(v).unwrap())).collect()
}

fn quota(remaining: i64, reset: i64) -> Vec<(&'static str, String)> {
    vec![("x-ratelimit-remaining", remaining.to_string()), ("x-ratelimit-reset", (NOW + reset).to_string())]
}

fn retry(value: &str) -> Vec<(&'static str, String)> {
    vec![("retry-after", value.to_owned())]
}

fn answer<'a>(status: StatusCode, headers: &'a HeaderMap, message: Option<&'a str>) -> Answer<'a> {
    Answer { status, headers, message, authorized: true, sent: *START }
}

/// The limit that an answer is.
fn limit(limits: &mut AccountLimits, answer: Answer<'_>, now: Now) -> Option<RateLimit> {
    match limits.observe("net", answer, now) {
        Ok(()) => None,
        Err(Rejection::RateLimit(limit)) => Some(limit),
        Err(Rejection::PageAgain) => panic!("no other repository is served"),
    }
}

#[test]
fn what_an_answer_means() {
    let secondary = Some("You have exceeded a secondary rate limit.");
    let both = [quota(0, 900), retry("60")].concat();
    let wait = |seconds, secondary: bool| {
        Some((seconds, if secondary { LimitKind::Secondary } else { LimitKind::Primary }))
    };
    for (what, status, pairs, message, order, closed) in [
        ("plain success", 200, vec![], None, None, None),
        ("success with quota", 302, quota(9, 900), None, None, None),
        ("last of the quota", 302, quota(0, 900), None, None, Some(900)),
        ("quota of the past", 302, quota(0, -5), None, None, None),
        ("spent", 403, quota(0, 900), None, wait(900, false), Some(900)),
        ("spent, 429", 429, quota(0, 900), None, wait(900, false), Some(900)),
        ("spent, and the reset is over", 403, quota(0, -5), None, wait(60, false), Some(60)),
        ("spent, and the reset is now", 429, quota(0, 0), None, wait(60, false), Some(60)),
        ("retry-after", 403, retry("30"), None, wait(30, true), Some(30)),
        ("zero retry-after", 429, retry("0"), None, wait(1, true), Some(1)),
        ("the longer of both", 403, both, secondary, wait(900, false), Some(900)),
        ("date", 429, retry("Fri, 15 Jan 2027 08:02:00 GMT"), None, wait(120, true), Some(120)),
        ("absurd", 429, retry("86400000"), None, wait(3900, true), Some(3900)),
        ("secondary without a time", 403, quota(9, 900), secondary, wait(60, true), Some(60)),
        ("429 without a word", 429, vec![], None, wait(60, true), Some(60)),
        ("forbidden", 403, quota(9, 900), Some("Resource protected by SAML"), None, None),
        ("forbidden without a word", 403, vec![], None, None, None),
        ("not found", 404, quota(9, 900), None, None, None),
        ("overloaded", 503, retry("20"), None, wait(20, true), Some(20)),
        ("failed", 503, vec![], None, None, None),
        ("failed oddly", 500, retry("20"), None, None, None),
    ] {
        let mut limits = AccountLimits::default();
        let status = StatusCode::from_u16(status).unwrap();
        let seen = limit(&mut limits, answer(status, &headers(&pairs), message), at(0));
        assert_eq!(seen, order.map(|(s, kind)| RateLimit { until: wall(s), kind }), "{what}");
        assert_eq!(limits.limited(at(0)).map(|l| l.until), closed.map(wall), "{what}");
    }
}

/// The headers of a GitHub whose clock is that many seconds ahead of ours.
fn by_clock(ahead: i64, pairs: Vec<(&'static str, String)>) -> HeaderMap {
    let date = rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&wall(ahead)).unwrap();
    headers(&[pairs, vec![("date", date)]].concat())
}

#[test]
fn the_wait_is_by_the_clock_that_named_the_time() {
    let dated = retry("Fri, 15 Jan 2027 08:02:00 GMT");
    for (what, ahead, pairs, seconds) in [
        ("same clock", 0, quota(0, 900), 900),
        ("ours is ten minutes fast", -600, quota(0, -300), 300),
        ("ours is ten minutes slow", 600, quota(0, 900), 300),
        ("ours is a second fast", -1, quota(0, 20), 21),
        ("reset when it was sent", -600, quota(0, -600), 60),
        ("reset before it was sent", -600, quota(0, -601), 60),
        ("a date", -30, dated, 150),
        ("seconds need no clock", -600, retry("30"), 30),
    ] {
        let mut limits = AccountLimits::default();
        let spent = limit(&mut limits, answer(StatusCode::FORBIDDEN, &by_clock(ahead, pairs), None), at(0));
        assert_eq!(spent.map(|limit| limit.until), Some(wall(seconds)), "{what}");
    }
    // The same where nothing is refused yet, and for what the metrics show.
    let mut limits = AccountLimits::default();
    limit(&mut limits, answer(StatusCode::FOUND, &by_clock(-600, quota(0, -300)), None), at(0));
    assert_eq!(limits.limited(at(299)).map(|limit| limit.until), Some(wall(300)));
    assert_eq!(limits.quota, Some((0, at(300).monotonic)));
}

#[test]
fn a_fast_clock_never_probes_before_the_reset() {
    // Without a Date header the reset seems to be over all the time: 1, 2, 4 … minutes, and not each second.
    let (mut limits, mut now, mut asked) = (AccountLimits::default(), 0, Vec::new());
    while now < 600 {
        asked.push(now);
        let spent = limit(&mut limits, answer(StatusCode::FORBIDDEN, &headers(&quota(0, -5)), None), at(now));
        now = u32::try_from(spent.unwrap().until.as_second() - NOW).unwrap();
    }
    assert_eq!(asked, [0, 60, 180, 420]);
}

#[test]
fn a_page_that_forbids_what_needs_no_credential_is_a_limit() {
    for (what, status, authorized, message, kind) in [
        ("abuse page", 403, false, None, Some(LimitKind::RepositoryPage)),
        ("to a credential", 403, true, None, None),
        ("GitHub's explanation", 403, false, Some("Resource not accessible"), None),
        (
            "GitHub's explanation about a limit",
            403,
            false,
            Some("API rate limit exceeded"),
            Some(LimitKind::Secondary),
        ),
        ("429 as a page", 429, false, None, Some(LimitKind::Secondary)),
        ("sign in", 401, false, None, None),
        ("legal reasons", 451, false, None, None),
    ] {
        let mut limits = AccountLimits::default();
        let status = StatusCode::from_u16(status).unwrap();
        let none = HeaderMap::new();
        let seen = limit(&mut limits, Answer { authorized, ..answer(status, &none, message) }, at(0));
        assert_eq!(seen, kind.map(|kind| RateLimit { until: wall(60), kind }), "{what}");
    }
}

#[test]
fn waits_without_a_time_double_until_a_good_answer() {
    let mut limits = AccountLimits::default();
    let busy = |limits: &mut AccountLimits, now: u32| {
        let limit = limit(limits, answer(StatusCode::TOO_MANY_REQUESTS, &HeaderMap::new(), None), at(now));
        limit.unwrap().until.as_second() - NOW - i64::from(now)
    };
    assert_eq!(busy(&mut limits, 0), 60);
    assert_eq!(busy(&mut limits, 60), 120);
    assert_eq!(busy(&mut limits, 180), 240);
    // Answered late: part of the same strike, as is a success that was under way.
    assert_eq!(busy(&mut limits, 181), 240);
    limit(&mut limits, answer(StatusCode::OK, &HeaderMap::new(), None), at(182));
    assert_eq!(limits.strikes, 3);
    assert!(limits.limited(at(182)).is_some());
    limit(&mut limits, answer(StatusCode::OK, &HeaderMap::new(), None), at(9000));
    assert_eq!(busy(&mut limits, 9001), 60);
}

#[test]
fn short_waits_that_are_named_in_a_row_grow_until_a_good_answer() {
    for (status, named, expected) in [
        (429, "0", [1, 1, 5, 10, 20, 40]),
        (503, "1", [1, 1, 5, 10, 20, 40]),
        (403, "15", [15, 15, 15, 15, 20, 40]),
        (429, "900", [900; 6]),
    ] {
        let status = StatusCode::from_u16(status).unwrap();
        let mut limits = AccountLimits::default();
        let mut now = 0;
        let mut asked = |limits: &mut AccountLimits| {
            let limit = limit(limits, answer(status, &headers(&retry(named)), None), at(now));
            let until = u32::try_from(limit.unwrap().until.as_second() - NOW).unwrap();
            until - std::mem::replace(&mut now, until)
        };
        assert_eq!(expected.map(|_| asked(&mut limits)), expected, "{status} {named}");
        assert_eq!(limits.timed, 6);
        limit(&mut limits, answer(StatusCode::OK, &HeaderMap::new(), None), at(9000));
        assert_eq!(asked(&mut limits), expected[0], "{status} {named} after a good answer");
    }
    // Answered together: one of them.
    let mut limits = AccountLimits::default();
    for _ in 0..4 {
        limit(&mut limits, answer(StatusCode::TOO_MANY_REQUESTS, &headers(&retry("5")), None), at(0));
    }
    assert_eq!((limits.timed, limits.limited(at(0)).unwrap().until), (1, wall(5)));
    let longest = timed(Duration::ZERO, u32::MAX);
    assert_eq!(longest, Duration::from_mins(10));
}

#[test]
fn a_redirect_to_a_host_of_archives_that_is_limited_does_not_end_the_row() {
    let (limits, none) = (RateLimits::default(), HeaderMap::new());
    let account = Account { host: "github.com".into(), identity: Identity::Anonymous };
    let mut now = 0;
    let mut fetch = || {
        let observe = |status| limits.observe(&account, "net", answer(status, &none, None), at(now));
        observe(StatusCode::FOUND).unwrap();
        let limited = observe(StatusCode::TOO_MANY_REQUESTS);
        let Err(Rejection::RateLimit(RateLimit { until, .. })) = limited else { panic!("{limited:?}") };
        let until = u32::try_from(until.as_second() - NOW).unwrap();
        until - std::mem::replace(&mut now, until)
    };
    assert_eq!([fetch(), fetch(), fetch()], [60, 120, 240]);
    // An archive does, also from a host whose answers are not observed, unless the limit still lasts.
    limits.served(&account, "net", at(0).monotonic, at(419));
    assert_eq!(fetch(), 480);
    limits.served(&account, "net", at(901).monotonic, at(901));
    assert_eq!(fetch(), 60);
}

#[test]
fn a_shorter_limit_does_not_end_a_longer_one() {
    let mut limits = AccountLimits::default();
    limit(&mut limits, answer(StatusCode::FORBIDDEN, &headers(&quota(0, 900)), None), at(0));
    limit(&mut limits, answer(StatusCode::TOO_MANY_REQUESTS, &headers(&retry("5")), None), at(1));
    assert_eq!(limits.limited(at(899)).map(|l| l.until), Some(wall(900)));
    assert_eq!(limits.limited(at(900)), None);
}

#[test]
fn accounts_wait_apart_and_the_smallest_quota_is_shown() {
    let limits = RateLimits::default();
    let account = |n| Account { host: "api.github.com".into(), identity: Identity::Token([n; 32]) };
    let observe = |account: &Account, remaining| {
        let headers = headers(&quota(remaining, 900));
        limits.observe(account, "net", answer(StatusCode::OK, &headers, None), at(0)).unwrap();
    };
    observe(&account(1), 40);
    observe(&account(2), 0);
    assert_eq!(limits.check(&account(1), "net", at(0)), Ok(()));
    assert_eq!(
        limits.check(&account(2), "net", at(0)),
        Err(RateLimit { until: wall(900), kind: LimitKind::Primary })
    );
    assert_eq!(limits.remaining(at(0)), [("token", 0)]);
    // What an App has left for asking for tokens says nothing of what its tokens have left.
    let app = |identity| Account { identity, ..account(0) };
    observe(&app(Identity::AppItself { app_id: 1, fingerprint: [1; 32] }), 3);
    assert_eq!(limits.remaining(at(0)), [("token", 0)]);
    observe(&app(Identity::App { app_id: 1, installation_id: 2, fingerprint: [1; 32] }), 7);
    assert_eq!(limits.remaining(at(0)), [("app", 7), ("token", 0)]);
    assert_eq!(limits.remaining(at(900)), []);
}

#[test]
fn a_limit_that_another_process_has_met_counts_until_its_time() {
    let limits = RateLimits::default();
    let account = Account { host: "api.github.com".into(), identity: Identity::Token([1; 32]) };
    limits.recall(&account, wall(600), LimitKind::Secondary, at(0));
    let limit = RateLimit { until: wall(600), kind: LimitKind::Secondary };
    assert_eq!(limits.check(&account, "net", at(599)), Err(limit));
    assert_eq!(limits.check(&account, "net", at(600)), Ok(()));
}

#[test]
fn a_page_limits_its_repository_and_pages_of_two_the_account() {
    let (limits, none) = (RateLimits::default(), HeaderMap::new());
    let account = Account { host: "github.com".into(), identity: Identity::Anonymous };
    let page = |repository: &str, now: u32| {
        let sent = at(now).monotonic;
        let answer = Answer { authorized: false, sent, ..answer(StatusCode::FORBIDDEN, &none, None) };
        limits.observe(&account, repository, answer, at(now))
    };
    let limit = |seconds, kind| RateLimit { until: wall(seconds), kind };
    let one = limit(60, LimitKind::RepositoryPage);
    assert_eq!(page("a", 0), Err(Rejection::RateLimit(one)));
    assert_eq!(
        (limits.check(&account, "a", at(59)), limits.check(&account, "b", at(59))),
        (Err(one), Ok(()))
    );
    assert_eq!(limits.check(&account, "a", at(60)), Ok(()));
    // Others are served, and this one is not.
    limits.served(&account, "b", at(61).monotonic, at(61));
    assert_eq!(page("a", 62), Err(Rejection::PageAgain));
    assert_eq!(limits.check(&account, "a", at(62)), Ok(()));
    // Then nothing is served any more.
    page("b", 63).unwrap_err();
    let all = limit(124, LimitKind::Pages);
    assert_eq!(page("c", 64), Err(Rejection::RateLimit(all)));
    for name in ["a", "b", "c", "d"] {
        assert_eq!(limits.check(&account, name, at(65)), Err(all), "{name}");
    }
    assert_eq!(limits.check(&account, "d", at(124)), Ok(()));
}

#[test]
fn a_clock_that_is_set_does_not_move_a_limit() {
    let mut limits = AccountLimits::default();
    let spent = limit(&mut limits, answer(StatusCode::FORBIDDEN, &headers(&quota(0, 900)), None), at(0));
    assert_eq!(spent.map(|limit| limit.until), Some(wall(900)));
    for set in [-7200, 7200] {
        let later = |seconds| Now { wall: wall(i64::from(seconds) + set), ..at(seconds) };
        let limit = limits.limited(later(899));
        assert_eq!(limit.map(|limit| limit.until), Some(wall(900 + set)), "messages follow the clock");
        assert_eq!(limits.limited(later(900)), None);
    }
}

#[test]
fn messages_show_whole_seconds_that_do_not_change() {
    let mut limits = AccountLimits::default();
    let now = |nanos| Now {
        monotonic: *START + Duration::from_nanos(nanos),
        wall: wall(0) + Duration::from_nanos(nanos),
    };
    let first = limit(&mut limits, answer(StatusCode::FORBIDDEN, &headers(&retry("30")), None), now(1));
    assert_eq!(first.map(|limit| limit.until), Some(wall(31)));
    // The two clocks are not read at the same instant.
    for off in [0, 1_000, 400_000_000] {
        for sign in [-1, 1] {
            let wall = wall(5) + SignedDuration::from_nanos(sign * off);
            let later = Now { wall, ..at(5) };
            assert_eq!(limits.limited(later), first, "{off}");
        }
    }
}
