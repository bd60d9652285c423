use super::rejection::{MANY, MAX_FOLDERS};
use super::*;
use crate::storage::Operation;

fn at(key: &str) -> ObjectLocation {
    ObjectLocation {
        bucket: "modules".into(),
        key: key.into(),
        region: "us-west-2".into(),
        endpoint: None,
        force_path_style: None,
    }
}

fn denied() -> Result<(), Cause> {
    Err(Cause::AccessDenied { detail: "AccessDenied".into() })
}

fn failed(key: &str) -> impl FnOnce(Cause) -> StorageError {
    let location = Box::new(at(key));
    move |cause| StorageError { operation: Operation::Put, location, cause }
}

/// Whether one was held back, for what others met in this folder or elsewhere, and for how many seconds.
fn held(asked: Result<UploadPermit<'_>, UploadDelayed>) -> Option<(bool, u64)> {
    let held = asked.err()?;
    assert_eq!(Err(held.error.cause), denied());
    Some((held.elsewhere, held.pause.as_secs()))
}

struct World {
    backoff: UploadBackoff,
    encryption: Encryption,
    start: Instant,
}

impl World {
    fn new() -> Self {
        Self { backoff: UploadBackoff::default(), encryption: Encryption::default(), start: Instant::now() }
    }

    fn now(&self, seconds: u64) -> Instant {
        self.start + Duration::from_secs(seconds)
    }

    fn permit(&self, key: &str, seconds: u64) -> Result<UploadPermit<'_>, UploadDelayed> {
        self.backoff.permit(&at(key), &self.encryption, false, self.now(seconds), failed(key))
    }

    fn ended(&self, key: &str, result: &Result<(), Cause>, seconds: u64) {
        let result = result.clone().map(|()| PutOutcome::Stored);
        self.backoff.record(&at(key), &self.encryption, &result, self.now(seconds));
    }
}

#[test]
fn where_a_store_refuses_one_at_a_time_finds_out_with_growing_pauses() {
    let world = World::new();
    // Many at once, before anything is known.
    assert!((0..4).all(|n| world.permit(&format!("vpc/{n}.zip"), 0).is_ok()));
    for n in 0..4 {
        world.ended(&format!("vpc/{n}.zip"), &denied(), 0);
    }
    let mut times = Vec::new();
    for second in 0..3600 {
        let attempt = world.permit("vpc/5.zip", second);
        if attempt.is_ok() {
            assert_eq!(held(world.permit("vpc/6.zip", second)), Some((false, 3)), "one at a time");
            world.ended("vpc/5.zip", &denied(), second);
            times.push(second);
        } else {
            assert!(matches!(held(attempt), Some((false, 3..=420))));
        }
    }
    assert_eq!(times[..4], [3, 9, 21, 45]);
    assert!(times.len() < 20, "{times:?}");
    // It is mended.
    let last = times.last().unwrap() + 420;
    let attempt = world.permit("vpc/5.zip", last).unwrap();
    world.ended("vpc/5.zip", &Ok(()), last);
    drop(attempt);
    assert!((0..9).all(|n| world.permit(&format!("vpc/{n}.zip"), last).is_ok()));
    world.ended("vpc/1.zip", &denied(), last);
    assert!(world.permit("vpc/1.zip", last + 3).is_ok(), "and pauses begin anew");
}

#[test]
fn one_that_was_given_up_leaves_it_to_the_next() {
    let world = World::new();
    world.ended("vpc/1.zip", &denied(), 0);
    drop(world.permit("vpc/2.zip", 3).unwrap());
    let _next = world.permit("vpc/3.zip", 3).unwrap();
    world.ended("vpc/4.zip", &Err(Cause::EntityTooLarge), 3);
    world.ended("vpc/4.zip", &Err(Cause::BodyTooLarge), 3);
    world.ended("net/4.zip", &Err(Cause::Retained { detail: String::new() }), 3);
    assert!(world.permit("net/5.zip", 3).is_ok(), "the store keeps that object alone");
    world.ended("vpc/4.zip", &Err(Cause::File { detail: String::new() }), 3);
    assert!(world.permit("vpc/2.zip", 3).is_err(), "what says nothing about the store changes nothing");
}

#[test]
fn an_object_that_is_there_is_no_success_and_a_conflict_is_a_rejection() {
    let world = World::new();
    let exists = |key: &str, seconds| {
        let result = Ok(PutOutcome::AlreadyExists);
        world.backoff.record(&at(key), &world.encryption, &result, world.now(seconds));
    };
    exists("vpc/1.zip", 0);
    assert!(world.permit("vpc/2.zip", 0).is_ok(), "one that is there is no rejection either");
    world.ended("vpc/1.zip", &denied(), 0);
    exists("vpc/1.zip", 1);
    assert_eq!(held(world.permit("vpc/2.zip", 1)), Some((false, 3)));
    for cause in [Cause::Conflict, Cause::unavailable(412, "")] {
        world.ended("eks/1.zip", &Err(cause.clone()), 0);
        assert_eq!(world.permit("eks/2.zip", 2).unwrap_err().error.cause, cause);
        assert!(world.permit("eks/2.zip", 3).is_ok());
        world.ended("eks/2.zip", &Ok(()), 3);
        assert!(world.permit("eks/1.zip", 3).is_ok());
    }
}

#[test]
fn others_are_not_meant_until_many_are_rejected_alike() {
    let world = World::new();
    world.ended("team/vpc/1.zip", &denied(), 0);
    assert!(world.permit("team/vpc/2.zip", 0).is_err());
    for other in ["team/eks/1.zip", "vpc/1.zip", "other/vpc/1.zip"] {
        assert!(world.permit(other, 0).is_ok(), "{other}");
    }
    let encrypted = Encryption { kms_key_id: Some("key".into()), ..Encryption::default() };
    let key = "team/vpc/2.zip";
    let encrypted = world.backoff.permit(&at(key), &encrypted, false, world.now(0), failed(key));
    assert!(encrypted.is_ok(), "the key may be why");
    // Another folder that is fine says nothing about the one that is not, nor one that is rejected otherwise.
    world.ended("team/eks/1.zip", &Ok(()), 0);
    world.ended("team/rds/1.zip", &denied(), 0);
    let full = Err(Cause::unavailable(507, ""));
    world.ended("team/full/1.zip", &full, 0);
    world.ended("team/rds/1.zip", &full, 0);
    assert!(world.permit("team/vpc/2.zip", 0).is_err() && world.permit("team/s3/1.zip", 0).is_ok());
    for folder in ["eks", "rds"] {
        world.ended(&format!("team/{folder}/1.zip"), &denied(), 0);
    }
    assert_eq!(held(world.permit("team/s3/1.zip", 0)), Some((true, 3)));
    assert!(world.permit("vpc/1.zip", 0).is_ok());
    // It has a try soon, however often the others were rejected, and finds that not all of the prefix is.
    for second in [3, 9, 21, 45, 93] {
        world.ended("team/vpc/1.zip", &denied(), second);
    }
    assert_eq!(held(world.permit("team/s3/1.zip", 5)), Some((true, 5)));
    drop(world.permit("team/s5/1.zip", 103).unwrap());
    assert!(world.permit("team/s3/1.zip", 104).is_ok(), "a try without a PUT has found nothing out");
    assert_eq!(held(world.permit("team/vpc/1.zip", 113)), Some((false, 76)));
    let first = world.permit("team/s3/1.zip", 113).unwrap();
    assert!(world.permit("team/s4/1.zip", 113).is_err(), "one at a time");
    world.ended("team/s3/1.zip", &Ok(()), 113);
    drop(first);
    assert!(world.permit("team/vpc/1.zip", 113).is_ok(), "each finds out");
    assert!(world.permit("team/full/1.zip", 0).is_err());
}

#[test]
fn folders_that_were_not_tried_are_tried_one_at_a_time_and_not_for_ever() {
    let world = World::new();
    for folder in ["vpc", "eks", "rds"] {
        world.ended(&format!("team/{folder}/1.zip"), &denied(), 0);
    }
    let hangs = world.permit("team/s3/1.zip", 10).unwrap();
    assert!(world.permit("team/s4/1.zip", 39).is_err() && world.permit("team/s4/1.zip", 40).is_ok());
    drop(hangs);
    world.ended("team/s3/1.zip", &denied(), 41);
    assert_eq!(held(world.permit("team/s4/1.zip", 43)), Some((true, 4)));
    assert!(world.permit("team/vpc/1.zip", 41 + 2 * 3600).is_ok(), "what met it may be gone");
    assert!(world.backoff.0.lock().values().all(HashMap::is_empty));
}

#[test]
fn folders_beyond_those_that_are_remembered_are_tried_with_growing_pauses() {
    let world = World::new();
    for n in 0..300 {
        world.ended(&format!("team/{n}/1.zip"), &denied(), 10 * n);
    }
    let tried = (3000..6600).filter(|&second| {
        let key = format!("team/{second}/1.zip");
        let permit = world.permit(&key, second);
        if permit.is_ok() {
            world.ended(&key, &denied(), second);
        }
        permit.is_ok()
    });
    assert!((8..20).contains(&tried.count()));
}

#[test]
fn who_asks_for_it_gets_an_attempt_unless_many_were_rejected_just_now() {
    let world = World::new();
    for second in [0, 3, 9, 21] {
        world.ended("vpc/1.zip", &denied(), second);
    }
    let asked = |seconds| {
        let key = "vpc/2.zip";
        world.backoff.permit(&at(key), &world.encryption, true, world.now(seconds), failed(key))
    };
    assert!(asked(22).is_ok());
    for _ in 0..MANY {
        world.ended("vpc/1.zip", &denied(), 21);
    }
    assert!(asked(22).is_err() && asked(27).is_ok() && asked(27).is_ok());
    assert!(world.permit("vpc/3.zip", 27).is_err());
}

#[test]
fn a_delay_that_s3_asks_for_is_kept_and_memory_is_bounded() {
    let world = World::new();
    let slow = |seconds| {
        let retry_after = Some(Duration::from_secs(seconds));
        Err(Cause::SlowDown { retry_after, detail: String::new() })
    };
    world.ended("vpc/1.zip", &slow(60), 0);
    assert!(world.permit("vpc/2.zip", 59).is_err() && world.permit("vpc/2.zip", 60).is_ok());
    for second in [60, 120, 180, 240] {
        world.ended("vpc/1.zip", &slow(1), second);
    }
    assert!(world.permit("vpc/2.zip", 245).is_err(), "it asks for a second each time, and is still too busy");
    for n in 0..2 * MAX_PREFIXES {
        world.ended(&format!("team-{n}/vpc/1.zip"), &denied(), 0);
        world.ended(&format!("team/{n}/1.zip"), &denied(), 0);
    }
    let all = world.backoff.0.lock();
    let folders = all.values().flat_map(|kinds| kinds.values().map(|rejection| rejection.folders.len()));
    assert!(all.len() <= MAX_PREFIXES && folders.max().unwrap() <= MAX_FOLDERS);
}

#[test]
fn uploads_that_s3_shows_differently_are_deferred_and_reported_as_repeated() {
    let world = World::new();
    let differs = |seconds| {
        let cause = Cause::StoredDifferently { what: "another checksum", repeated: false };
        match world.backoff.reject(&at("vpc/1.zip"), &world.encryption, &cause, world.now(seconds)) {
            Cause::StoredDifferently { repeated, .. } => repeated,
            other => panic!("{other:?}"),
        }
    };
    // Each PUT succeeds, as one object is retried after 5 and 10 seconds.
    for (second, repeated) in [(0, false), (5, false), (15, true)] {
        drop(world.permit("vpc/1.zip", second).unwrap());
        world.ended("vpc/1.zip", &Ok(()), second);
        assert_eq!(differs(second), repeated, "{second}");
    }
    world.ended("vpc/2.zip", &Ok(()), 16);
    let deferred = world.permit("vpc/2.zip", 16).unwrap_err();
    assert!(deferred.confirmed && !deferred.elsewhere, "{deferred:?}");
    assert_eq!(deferred.error.cause, Cause::StoredDifferently { what: "another checksum", repeated: true });
    assert!(world.permit("eks/1.zip", 16).is_ok());
    // Others that are rejected are another matter, and end independently.
    world.ended("eks/1.zip", &denied(), 16);
    world.backoff.verified(&at("eks/1.zip"), &world.encryption);
    assert!(world.permit("eks/2.zip", 16).is_err());
    world.backoff.verified(&at("vpc/1.zip"), &world.encryption);
    assert!(world.permit("vpc/2.zip", 16).is_ok());
    // What arrives with another checksum stores nothing, and would for others too.
    world.ended("rds/1.zip", &Err(Cause::ChecksumMismatch), 16);
    assert!(world.permit("rds/2.zip", 16).is_err());
}
