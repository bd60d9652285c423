use Operation::{Delete, Head, Put};

use super::*;

fn endpoint(host: &str) -> Endpoint {
    format!("https://{host}").parse().expect("an endpoint")
}

fn answer(status: u16, detail: &str) -> Cause {
    let code = detail.split(':').next().filter(|code| !code.is_empty()).map(str::to_owned);
    Cause::Other { status: Some(status), code, detail: detail.to_owned() }
}

fn signature() -> Cause {
    Cause::CredentialsInvalid { code: "SignatureDoesNotMatch".into() }
}

/// The headers (m, c, i) of each request until the store accepts one or all were rejected.
fn asked(
    rejected: &RejectedHeaders,
    (operation, conditional): (Operation, bool),
    store: impl Fn(Omitted) -> Option<Cause>,
) -> (Vec<String>, Result<(), Cause>) {
    let mut attempts = rejected.attempts(operation, Some(endpoint("store")), conditional);
    let mut sent = Vec::new();
    loop {
        let omitted = attempts.omitted;
        let carried = [
            (operation == Head && !omitted.checksum_mode, 'm'),
            (operation == Put && !omitted.checksum, 'c'),
            (operation == Put && conditional && !omitted.condition, 'i'),
        ];
        sent.push(carried.iter().filter(|(yes, _)| *yes).map(|(_, letter)| letter).collect());
        match store(omitted) {
            None => {
                rejected.record(attempts);
                return (sent, Ok(()));
            }
            Some(cause) => {
                if let Err(cause) = attempts.rejected(cause) {
                    return (sent, Err(cause));
                }
            }
        }
    }
}

#[test]
fn one_kind_is_left_out_at_a_time_and_what_worked_twice_is_remembered() {
    type Store = fn(Omitted) -> Option<Cause>;
    type Sent = &'static [&'static str];
    type Case = (&'static str, bool, Store, Sent, Sent);
    let unsupported = "InvalidArgument: Unsupported header 'x-amz-checksum-sha256' received";
    let unnamed = "NotImplemented: A header you provided implies functionality that is not implemented";
    let stores: [Case; 8] = [
        // Only the checksum is rejected: the condition stays.
        ("checksum", true, |o| (!o.checksum).then(|| answer(400, "InvalidArgument")), &["ci", "i"], &["i"]),
        (
            "checksum, named",
            true,
            |o| {
                (!o.checksum)
                    .then(|| answer(400, "InvalidArgument: Unsupported header 'x-amz-checksum-sha256'"))
            },
            &["ci", "i"],
            &["i"],
        ),
        ("without condition", false, |o| (!o.checksum).then(|| answer(501, "")), &["c", ""], &[""]),
        ("signature", true, |o| (!o.checksum).then(signature), &["ci", "i"], &["i"]),
        // Only the condition is.
        (
            "condition",
            true,
            |o| (!o.condition).then(|| answer(501, "NotImplemented")),
            &["ci", "i", "c"],
            &["c"],
        ),
        (
            "condition, named",
            true,
            |o| (!o.condition).then(|| answer(501, "NotImplemented: If-None-Match")),
            &["ci", "c"],
            &["c"],
        ),
        // Both are, by one answer or by two.
        (
            "both",
            true,
            |o| (!o.condition || !o.checksum).then(|| answer(400, "InvalidRequest")),
            &["ci", "i", "c", ""],
            &[""],
        ),
        (
            "one after the other",
            true,
            |o| match o {
                Omitted { checksum: false, .. } => Some(answer(400, "InvalidArgument: x-amz-checksum")),
                Omitted { condition: false, .. } => Some(answer(501, "NotImplemented")),
                _ => None,
            },
            &["ci", "i", ""],
            &[""],
        ),
    ];
    for (name, conditional, store, first, then) in stores {
        let rejected = RejectedHeaders::default();
        assert_eq!(asked(&rejected, (Put, conditional), store), (owned(first), Ok(())), "{name}");
        // Answers with a code count at once.
        let second = if name == "without condition" { first } else { then };
        assert_eq!(asked(&rejected, (Put, conditional), store), (owned(second), Ok(())), "{name}, again");
        assert_eq!(
            asked(&rejected, (Put, conditional), store),
            (owned(then), Ok(())),
            "{name}, and from then on"
        );
    }
    assert!(names_header(&answer(400, unsupported)) && names_header(&answer(501, unnamed)));
    for cause in [answer(400, ""), answer(501, ""), Cause::AccessDenied { detail: String::new() }] {
        let store = |o: Omitted| (!o.checksum_mode).then(|| cause.clone());
        let rejected = RejectedHeaders::default();
        for _ in 0..2 {
            assert_eq!(asked(&rejected, (Head, false), store), (owned(&["m", ""]), Ok(())));
        }
        assert_eq!(asked(&rejected, (Head, false), store).0, [""]);
    }
}

fn of(rejected: &RejectedHeaders, endpoint: &Endpoint, now: Instant) -> Omitted {
    rejected.known(endpoint, now).map(|known| known.rejected).unwrap_or_default()
}

fn owned(sent: &[&str]) -> Vec<String> {
    sent.iter().map(|&letters| letters.to_owned()).collect()
}

#[test]
fn a_transient_rejection_disables_nothing() {
    let rejected = RejectedHeaders::default();
    let fails_once = || {
        let failed = std::cell::Cell::new(false);
        move |_: Omitted| (!failed.replace(true)).then(|| answer(400, ""))
    };
    for (operation, sent) in [(Put, ["ci", "i"]), (Head, ["m", ""])] {
        for _ in 0..3 {
            assert_eq!(asked(&rejected, (operation, true), fails_once()), (owned(&sent), Ok(())));
            assert_eq!(asked(&rejected, (operation, true), |_| None).0, sent[..1], "it is sent again");
        }
    }
    // Many at once, during one fault.
    let attempts = || rejected.attempts(Put, Some(endpoint("store")), true);
    for mut attempts in [attempts(), attempts(), attempts()] {
        attempts.rejected(answer(400, "")).expect("once more");
        rejected.record(attempts);
    }
    assert_eq!(attempts().omitted, Omitted::default());
    // A success without a condition shows nothing about conditions.
    let condition = Omitted { condition: true, ..Omitted::default() };
    let rejected = RejectedHeaders::default();
    rejected.remember(endpoint("store"), Omitted::default(), condition, Instant::now());
    asked(&rejected, (Put, false), |_| None).1.expect("stored");
    assert_eq!(rejected.known(&endpoint("store"), Instant::now()).unwrap().suspected, condition);
}

#[test]
fn a_permanent_rejection_is_reported_and_nothing_is_remembered() {
    let rejected = RejectedHeaders::default();
    let all = ["ci", "i", "c", ""];
    assert_eq!(asked(&rejected, (Put, true), |_| Some(signature())), (owned(&all), Err(signature())));
    let invalid = answer(400, "InvalidStorageClass");
    assert_eq!(asked(&rejected, (Put, true), |_| Some(invalid.clone())).1, Err(invalid.clone()));
    assert_eq!(asked(&rejected, (Head, false), |_| Some(answer(400, ""))).0, ["m", ""]);
    assert_eq!(asked(&rejected, (Delete, false), |_| Some(invalid.clone())).0, [""]);
    // These are about something else.
    let denied = Cause::AccessDenied { detail: "AccessDenied".into() };
    let keys = Cause::CredentialsInvalid { code: "InvalidAccessKeyId".into() };
    let kms = answer(400, "InvalidArgument: kms key id with AES256");
    let quota = answer(400, "XMinioAdminBucketQuotaExceeded: Bucket quota exceeded");
    for cause in [denied.clone(), keys, kms, quota, answer(404, "x"), Cause::BucketMissing] {
        assert_eq!(asked(&rejected, (Put, true), |_| Some(cause.clone())), (owned(&["ci"]), Err(cause)));
    }
    // Past the header, another rejection waits.
    let store = |o: Omitted| {
        Some(if o.checksum { denied.clone() } else { answer(400, "Unsupported header 'x-amz-checksum'") })
    };
    assert_eq!(asked(&rejected, (Put, true), store), (owned(&["ci", "i"]), Err(denied.clone())));
    let store =
        |o: Omitted| Some(if o.checksum { answer(400, "needs a checksum") } else { answer(400, "odd") });
    assert_eq!(asked(&rejected, (Put, true), store).1, Err(answer(400, "odd")));
    assert_eq!(of(&rejected, &endpoint("store"), Instant::now()), Omitted::default());
}

#[test]
fn requests_to_aws_keep_all_headers() {
    let rejected = RejectedHeaders::default();
    let mut attempts = rejected.attempts(Put, None, true);
    assert_eq!(attempts.rejected(answer(400, "")), Err(answer(400, "")));
    rejected.record(attempts);
    assert!(rejected.0.lock().is_empty());
}

#[test]
fn what_is_remembered_adds_up_ends_and_is_bounded() {
    let rejected = RejectedHeaders::default();
    let (one, two) = (endpoint("one"), endpoint("two"));
    let now = Instant::now();
    let mode = Omitted { checksum_mode: true, ..Omitted::default() };
    let checksum = Omitted { checksum: true, ..Omitted::default() };
    rejected.remember(one.clone(), mode, mode, now);
    rejected.remember(one.clone(), checksum, checksum, now + REMEMBERED_FOR / 2);
    assert_eq!(of(&rejected, &one, now), mode.and(checksum));
    assert_eq!(of(&rejected, &two, now), Omitted::default());
    assert_eq!(of(&rejected, &one, now + REMEMBERED_FOR), Omitted::default());
    rejected.remember(one.clone(), checksum, checksum, now + REMEMBERED_FOR);
    assert_eq!(of(&rejected, &one, now + REMEMBERED_FOR), checksum, "what was long ago does not count");
    for number in 0..2 * MAX_ENDPOINTS {
        rejected.remember(endpoint(&format!("host-{number}")), mode, mode, now);
    }
    assert!(rejected.0.lock().len() <= MAX_ENDPOINTS);
}
