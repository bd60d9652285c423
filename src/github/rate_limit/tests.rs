use http::{HeaderName, HeaderValue};

use super::{super::credential::Identity, *};

const NOW: i64 = 1_800_000_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(NOW + seconds).unwrap()
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
    Answer { status, headers, message, authorized: true }
}

#[test]
fn what_an_answer_means() {
    let secondary = Some("You have exceeded a secondary rate limit.");
    let both = [quota(0, 900), retry("60")].concat();
    let limit = |seconds, secondary: bool| {
        Some((seconds, if secondary { LimitKind::Secondary } else { LimitKind::Primary }))
    };
    for (what, status, pairs, message, order, closed) in [
        ("plain success", 200, vec![], None, None, None),
        ("success with quota", 302, quota(9, 900), None, None, None),
        ("last of the quota", 302, quota(0, 900), None, None, Some(900)),
        ("quota of the past", 302, quota(0, -5), None, None, None),
        ("spent", 403, quota(0, 900), None, limit(900, false), Some(900)),
        ("spent, 429", 429, quota(0, 900), None, limit(900, false), Some(900)),
        ("spent, and the reset is over", 403, quota(0, -5), None, limit(60, false), Some(60)),
        ("spent, and the reset is now", 429, quota(0, 0), None, limit(60, false), Some(60)),
        ("retry-after", 403, retry("30"), None, limit(30, true), Some(30)),
        ("zero retry-after", 429, retry("0"), None, limit(1, true), Some(1)),
        ("the longer of both", 403, both, secondary, limit(900, false), Some(900)),
        ("date", 429, retry("Fri, 15 Jan 2027 08:02:00 GMT"), None, limit(120, true), Some(120)),
        ("absurd", 429, retry("86400000"), None, limit(3900, true), Some(3900)),
        ("secondary without a time", 403, quota(9, 900), secondary, limit(60, true), Some(60)),
        ("429 without a word", 429, vec![], None, limit(60, true), Some(60)),
        ("forbidden", 403, quota(9, 900), Some("Resource protected by SAML"), None, None),
        ("forbidden without a word", 403, vec![], None, None, None),
        ("not found", 404, quota(9, 900), None, None, None),
        ("overloaded", 503, retry("20"), None, limit(20, true), Some(20)),
        ("failed", 503, vec![], None, None, None),
        ("failed oddly", 500, retry("20"), None, None, None),
    ] {
        let mut gate = AccountLimits::default();
        let status = StatusCode::from_u16(status).unwrap();
        let seen = gate.observe(answer(status, &headers(&pairs), message), at(0));
        assert_eq!(seen, order.map(|(s, kind)| RateLimit { until: at(s), kind }), "{what}");
        assert_eq!(gate.closed_at(at(0)).map(|l| l.until), closed.map(at), "{what}");
    }
}

/// The headers of a GitHub whose clock is that many seconds ahead of ours.
fn by_clock(ahead: i64, pairs: Vec<(&'static str, String)>) -> HeaderMap {
    let date = rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at(ahead)).unwrap();
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
        let mut gate = AccountLimits::default();
        let spent = gate.observe(answer(StatusCode::FORBIDDEN, &by_clock(ahead, pairs), None), at(0));
        assert_eq!(spent.map(|limit| limit.until), Some(at(seconds)), "{what}");
    }
    // The same where nothing is refused yet, and for what the metrics show.
    let mut gate = AccountLimits::default();
    gate.observe(answer(StatusCode::FOUND, &by_clock(-600, quota(0, -300)), None), at(0));
    assert_eq!(gate.closed_at(at(299)).map(|limit| limit.until), Some(at(300)));
    assert_eq!(gate.quota, Some((0, at(300))));
}

#[test]
fn a_fast_clock_never_probes_before_the_reset() {
    // Without a Date header the reset seems to be over all the time: 1, 2, 4 … minutes, and not each second.
    let (mut gate, mut now, mut asked) = (AccountLimits::default(), 0, Vec::new());
    while now < 600 {
        asked.push(now);
        let spent = gate.observe(answer(StatusCode::FORBIDDEN, &headers(&quota(0, -5)), None), at(now));
        now = spent.unwrap().until.as_second() - NOW;
    }
    assert_eq!(asked, [0, 60, 180, 420]);
}

#[test]
fn a_page_that_forbids_what_needs_no_credential_is_an_order_to_wait() {
    for (what, status, authorized, message, kind) in [
        ("abuse page", 403, false, None, Some(LimitKind::Page)),
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
        let mut gate = AccountLimits::default();
        let status = StatusCode::from_u16(status).unwrap();
        let none = HeaderMap::new();
        let limit = gate.observe(Answer { authorized, ..answer(status, &none, message) }, at(0));
        assert_eq!(limit, kind.map(|kind| RateLimit { until: at(60), kind }), "{what}");
    }
}

#[test]
fn waits_without_a_time_double_until_a_good_answer() {
    let mut gate = AccountLimits::default();
    let busy = |gate: &mut AccountLimits, now: i64| {
        let limit = gate.observe(answer(StatusCode::TOO_MANY_REQUESTS, &HeaderMap::new(), None), at(now));
        limit.unwrap().until.as_second() - NOW - now
    };
    assert_eq!(busy(&mut gate, 0), 60);
    assert_eq!(busy(&mut gate, 60), 120);
    assert_eq!(busy(&mut gate, 180), 240);
    // Answered late: part of the same strike, as is a success that was under way.
    assert!(busy(&mut gate, 181) >= 239);
    gate.observe(answer(StatusCode::OK, &HeaderMap::new(), None), at(182));
    assert_eq!(gate.strikes, 3);
    assert!(gate.closed_at(at(182)).is_some());
    gate.observe(answer(StatusCode::OK, &HeaderMap::new(), None), at(9000));
    assert_eq!(busy(&mut gate, 9001), 60);
}

#[test]
fn a_shorter_order_does_not_open_a_closed_gate() {
    let mut gate = AccountLimits::default();
    gate.observe(answer(StatusCode::FORBIDDEN, &headers(&quota(0, 900)), None), at(0));
    gate.observe(answer(StatusCode::TOO_MANY_REQUESTS, &headers(&retry("5")), None), at(1));
    assert_eq!(gate.closed_at(at(899)).map(|l| l.until), Some(at(900)));
    assert_eq!(gate.closed_at(at(900)), None);
}

#[test]
fn accounts_wait_apart_and_the_smallest_quota_is_shown() {
    let gates = RateLimits::default();
    let account = |n| Account { host: "api.github.com".into(), identity: Identity::Token([n; 32]) };
    let observe = |account: &Account, remaining| {
        let headers = headers(&quota(remaining, 900));
        gates.observe(account, answer(StatusCode::OK, &headers, None), at(0));
    };
    observe(&account(1), 40);
    observe(&account(2), 0);
    assert_eq!(gates.check(&account(1), at(0)), Ok(()));
    assert_eq!(gates.check(&account(2), at(0)), Err(RateLimit { until: at(900), kind: LimitKind::Primary }));
    assert_eq!(gates.remaining(at(0)), [("token", 0)]);
    // What an App has left for asking for tokens says nothing of what its tokens have left.
    let app = |identity| Account { identity, ..account(0) };
    observe(&app(Identity::AppItself { app_id: 1, fingerprint: [1; 32] }), 3);
    assert_eq!(gates.remaining(at(0)), [("token", 0)]);
    observe(&app(Identity::App { app_id: 1, installation_id: 2, fingerprint: [1; 32] }), 7);
    assert_eq!(gates.remaining(at(0)), [("app", 7), ("token", 0)]);
    assert_eq!(gates.remaining(at(900)), []);
}
