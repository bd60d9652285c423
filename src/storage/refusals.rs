//! Places where a store refuses PUTs. In: how PUTs ended. Out: whether there is a point in making what another would store.
//!
//! What a PUT stores has to be fetched first, and each fetch uses up a quota that others share. So, where a store refuses,
//! one at a time finds out whether it still does, with growing pauses; all others of the same folder fail at once, with the
//! same words. Where three folders below a prefix were refused alike, the prefix is, and the others below it find that out
//! one at a time.

use std::collections::{HashMap, HashSet};
use std::mem::{Discriminant, discriminant};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Cause, Encryption};
use crate::domain::{ObjectLocation, canonical_endpoint};

/// Pauses grow from here: less than the shortest that a caller makes after a failure, so that one that is alone is never
/// held back by its own refusal.
const SHORTEST: Duration = Duration::from_secs(3);
const LONGEST: Duration = Duration::from_mins(7);
/// Who asks for another attempt gets one, unless many were refused and the last one just now: thousands may be asked for at
/// once.
const JUST_NOW: Duration = Duration::from_secs(5);
const MANY: u32 = 8;
/// So many refused folders stand for the whole prefix. Of those that were not tried yet, one may each time after this pause.
const FOLDERS: usize = 3;
const FIRST_TRIES: Duration = Duration::from_secs(10);
/// So many refusals in a row are no accident of one object.
const CONFIRMED: u32 = 3;
/// How long one may take to find out before another may, too: its download may hang while the store is fine again.
const PROBE: Duration = Duration::from_secs(30);
/// A refusal that was not met for so long is forgotten: what met it may be gone.
const OLD: Duration = Duration::from_hours(2);
/// Specs choose the places; a forgotten one costs a fetch.
const MAX_TARGETS: usize = 256;
const MAX_FOLDERS: usize = 256;

/// What a refusal is about: all that decides it, but the object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Target {
    endpoint: Option<String>,
    region: String,
    bucket: String,
    /// The key without its last two segments: the prefix that a spec gives.
    prefix: String,
    encryption: Encryption,
}

/// Folders below one prefix that were refused alike.
#[derive(Debug)]
struct Refusal {
    cause: Cause,
    folders: HashSet<String>,
    count: u32,
    /// PUTs that were refused, all counted.
    refused: u32,
    since: Instant,
    /// When the next one may find out.
    next: Instant,
    /// When one of a folder that was not tried yet may.
    next_folder: Instant,
    /// Since when one finds out.
    probed: Option<Instant>,
}

/// What is alike: the cause, with its status and code.
type Kind = (Discriminant<Cause>, u16, String);
type All = HashMap<Target, HashMap<Kind, Refusal>>;

/// The places where PUTs are refused.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<All>);

/// The right to prepare a PUT.
#[derive(Debug)]
pub struct Attempt<'a> {
    refusals: &'a Refusals,
    /// Where it is the one that finds out.
    probes: Option<(Target, Kind)>,
}

/// Why there is no point in preparing a PUT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub cause: Cause,
    /// Only other folders were refused.
    pub elsewhere: bool,
    /// It was met several times in a row.
    pub confirmed: bool,
    /// When there may be a point again.
    pub pause: Duration,
}

impl Target {
    /// And the folder within.
    fn of(place: &ObjectLocation, encryption: &Encryption) -> (Self, String) {
        let folder = place.key.rsplit_once('/').map_or("", |(folder, _)| folder);
        let prefix = folder.rsplit_once('/').map_or("", |(prefix, _)| prefix);
        let target = Self {
            endpoint: canonical_endpoint(place.endpoint.as_deref(), &place.region),
            region: place.region.clone(),
            bucket: place.bucket.clone(),
            prefix: prefix.to_owned(),
            encryption: encryption.clone(),
        };
        (target, folder.to_owned())
    }
}

impl Refusals {
    /// The right to prepare a PUT to `place`, or why the last one was refused. `asked`: somebody wants it now.
    pub fn ask(
        &self,
        place: &ObjectLocation,
        encryption: &Encryption,
        asked: bool,
        now: Instant,
    ) -> Result<Attempt<'_>, Held> {
        let (target, folder) = Target::of(place, encryption);
        let mut all = self.locked();
        if let Some(kinds) = all.get_mut(&target) {
            kinds.retain(|_, refusal| now.duration_since(refusal.since) < OLD);
        }
        let probes = match all.get_mut(&target).and_then(|kinds| meant(kinds, &folder)) {
            Some((kind, refusal)) => refusal.probe(&folder, asked, now)?.then_some((target, kind)),
            None => None,
        };
        Ok(Attempt { refusals: self, probes })
    }

    /// How a PUT ended.
    pub fn ended<T>(
        &self,
        place: &ObjectLocation,
        encryption: &Encryption,
        result: &Result<T, Cause>,
        now: Instant,
    ) {
        let (target, folder) = Target::of(place, encryption);
        let mut all = self.locked();
        match result {
            Ok(_) => {
                if let Some(kinds) = all.get_mut(&target) {
                    // One of many: the prefix is mended, or each has to find out.
                    kinds.retain(|_, refusal| refusal.folders.len() < FOLDERS);
                    leave(kinds, &folder, None);
                }
            }
            Err(cause) if is_refusal(cause) => {
                if all.len() >= MAX_TARGETS && !all.contains_key(&target) {
                    all.clear();
                }
                let kinds = all.entry(target.clone()).or_default();
                let kind = kind(cause);
                leave(kinds, &folder, Some(&kind));
                kinds.entry(kind).or_insert_with(|| Refusal::new(cause, now)).again(cause, folder, now);
            }
            // About this file, or this key.
            Err(_) => {}
        }
        if all.get(&target).is_some_and(HashMap::is_empty) {
            all.remove(&target);
        }
    }

    fn locked(&self) -> MutexGuard<'_, All> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The refusal that a PUT to this folder would probably meet.
fn meant<'a>(kinds: &'a mut HashMap<Kind, Refusal>, folder: &str) -> Option<(Kind, &'a mut Refusal)> {
    let own = kinds.iter().find(|(_, refusal)| refusal.folders.contains(folder));
    let kind = own.or_else(|| kinds.iter().find(|(_, refusal)| refusal.folders.len() >= FOLDERS))?.0.clone();
    let refusal = kinds.get_mut(&kind)?;
    Some((kind, refusal))
}

/// Forgets that a folder was refused, but for this reason.
fn leave(kinds: &mut HashMap<Kind, Refusal>, folder: &str, but: Option<&Kind>) {
    kinds.retain(|kind, refusal| {
        but == Some(kind) || !refusal.folders.remove(folder) || !refusal.folders.is_empty()
    });
}

impl Refusal {
    fn new(cause: &Cause, now: Instant) -> Self {
        let cause = cause.clone();
        let folders = HashSet::new();
        Self {
            cause,
            folders,
            count: 0,
            refused: 0,
            since: now,
            next: now,
            next_folder: now + FIRST_TRIES,
            probed: None,
        }
    }

    /// Whether one that wants to store in this folder finds out for all others.
    fn probe(&mut self, folder: &str, asked: bool, now: Instant) -> Result<bool, Held> {
        let elsewhere = !self.folders.contains(folder);
        if asked && (self.refused < MANY || now.duration_since(self.since) >= JUST_NOW) {
            return Ok(false);
        }
        let next = if elsewhere { self.next.min(self.next_folder) } else { self.next };
        if self.probed.is_some_and(|since| now.duration_since(since) < PROBE) || next > now {
            let pause = next.saturating_duration_since(now).max(SHORTEST);
            let confirmed = self.count >= CONFIRMED;
            return Err(Held { cause: self.cause.clone(), elsewhere, confirmed, pause });
        }
        self.probed = Some(now);
        Ok(true)
    }

    fn again(&mut self, cause: &Cause, folder: String, now: Instant) {
        // Those that were under way together count once.
        if self.count == 0 || self.next <= now {
            self.count = self.count.saturating_add(1);
        }
        self.refused = self.refused.saturating_add(1);
        self.cause = cause.clone();
        self.since = now;
        self.next = now + pause(self.count).max(asked_for(cause));
        if self.folders.len() < MAX_FOLDERS && self.folders.insert(folder) {
            self.next_folder = now + FIRST_TRIES;
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if let Some((target, kind)) = &self.probes {
            let mut all = self.refusals.locked();
            if let Some(refusal) = all.get_mut(target).and_then(|kinds| kinds.get_mut(kind)) {
                refusal.probed = None;
            }
        }
    }
}

/// Whether another object would meet the same.
fn is_refusal(cause: &Cause) -> bool {
    !matches!(
        cause,
        Cause::File { .. }
            | Cause::EntityTooLarge
            | Cause::Conflict
            | Cause::ChecksumMismatch
            | Cause::InvalidAddress(_)
    )
}

fn kind(cause: &Cause) -> Kind {
    let (status, code) = match cause {
        Cause::Other { status, code, .. } => (status.unwrap_or_default(), code.as_deref()),
        Cause::Unavailable { status, .. } => (*status, None),
        Cause::CredentialsInvalid { code } => (0, Some(code.as_str())),
        _ => (0, None),
    };
    (discriminant(cause), status, code.unwrap_or_default().to_owned())
}

fn pause(count: u32) -> Duration {
    SHORTEST.saturating_mul(2_u32.saturating_pow(count.saturating_sub(1).min(16))).min(LONGEST)
}

fn asked_for(cause: &Cause) -> Duration {
    match cause {
        Cause::SlowDown { retry_after: Some(pause) } => *pause,
        _ => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    /// Whether one was held back, for what others met in this folder or elsewhere, and for how many seconds.
    fn held(asked: Result<Attempt<'_>, Held>) -> Option<(bool, u64)> {
        let held = asked.err()?;
        assert_eq!(Err(held.cause), denied());
        Some((held.elsewhere, held.pause.as_secs()))
    }

    struct World {
        refusals: Refusals,
        encryption: Encryption,
        start: Instant,
    }

    impl World {
        fn new() -> Self {
            Self { refusals: Refusals::default(), encryption: Encryption::default(), start: Instant::now() }
        }

        fn now(&self, seconds: u64) -> Instant {
            self.start + Duration::from_secs(seconds)
        }

        fn ask(&self, key: &str, seconds: u64) -> Result<Attempt<'_>, Held> {
            self.refusals.ask(&at(key), &self.encryption, false, self.now(seconds))
        }

        fn ended(&self, key: &str, result: &Result<(), Cause>, seconds: u64) {
            self.refusals.ended(&at(key), &self.encryption, result, self.now(seconds));
        }
    }

    #[test]
    fn where_a_store_refuses_one_at_a_time_finds_out_with_growing_pauses() {
        let world = World::new();
        // Many at once, before anything is known.
        assert!((0..4).all(|n| world.ask(&format!("vpc/{n}.zip"), 0).is_ok()));
        for n in 0..4 {
            world.ended(&format!("vpc/{n}.zip"), &denied(), 0);
        }
        let mut times = Vec::new();
        for second in 0..3600 {
            let attempt = world.ask("vpc/5.zip", second);
            if attempt.is_ok() {
                assert_eq!(held(world.ask("vpc/6.zip", second)), Some((false, 3)), "one at a time");
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
        let attempt = world.ask("vpc/5.zip", last).unwrap();
        world.ended("vpc/5.zip", &Ok(()), last);
        drop(attempt);
        assert!((0..9).all(|n| world.ask(&format!("vpc/{n}.zip"), last).is_ok()));
        world.ended("vpc/1.zip", &denied(), last);
        assert!(world.ask("vpc/1.zip", last + 3).is_ok(), "and pauses begin anew");
    }

    #[test]
    fn one_that_was_given_up_leaves_it_to_the_next() {
        let world = World::new();
        world.ended("vpc/1.zip", &denied(), 0);
        drop(world.ask("vpc/2.zip", 3).unwrap());
        let _next = world.ask("vpc/3.zip", 3).unwrap();
        world.ended("vpc/4.zip", &Err(Cause::EntityTooLarge), 3);
        world.ended("vpc/4.zip", &Err(Cause::File { detail: String::new() }), 3);
        assert!(world.ask("vpc/2.zip", 3).is_err(), "what says nothing about the store changes nothing");
    }

    #[test]
    fn others_are_not_meant_until_many_are_refused_alike() {
        let world = World::new();
        world.ended("team/vpc/1.zip", &denied(), 0);
        assert!(world.ask("team/vpc/2.zip", 0).is_err());
        for other in ["team/eks/1.zip", "vpc/1.zip", "other/vpc/1.zip"] {
            assert!(world.ask(other, 0).is_ok(), "{other}");
        }
        let encrypted = Encryption { kms_key_id: Some("key".into()), ..Encryption::default() };
        let encrypted = world.refusals.ask(&at("team/vpc/2.zip"), &encrypted, false, world.now(0));
        assert!(encrypted.is_ok(), "the key may be why");
        // Another folder that is fine says nothing about the one that is not, nor one that is refused otherwise.
        world.ended("team/eks/1.zip", &Ok(()), 0);
        world.ended("team/rds/1.zip", &denied(), 0);
        let full = Err(Cause::Unavailable { status: 507, detail: String::new() });
        world.ended("team/full/1.zip", &full, 0);
        world.ended("team/rds/1.zip", &full, 0);
        assert!(world.ask("team/vpc/2.zip", 0).is_err() && world.ask("team/s3/1.zip", 0).is_ok());
        for folder in ["eks", "rds"] {
            world.ended(&format!("team/{folder}/1.zip"), &denied(), 0);
        }
        assert_eq!(held(world.ask("team/s3/1.zip", 0)), Some((true, 3)));
        assert!(world.ask("vpc/1.zip", 0).is_ok());
        // It has a try soon, however often the others were refused, and finds that not all of the prefix is.
        for second in [3, 9, 21, 45, 93] {
            world.ended("team/vpc/1.zip", &denied(), second);
        }
        assert_eq!(held(world.ask("team/s3/1.zip", 5)), Some((true, 5)));
        drop(world.ask("team/s5/1.zip", 103).unwrap());
        assert!(world.ask("team/s3/1.zip", 104).is_ok(), "a try without a PUT has found nothing out");
        assert_eq!(held(world.ask("team/vpc/1.zip", 113)), Some((false, 76)));
        let first = world.ask("team/s3/1.zip", 113).unwrap();
        assert!(world.ask("team/s4/1.zip", 113).is_err(), "one at a time");
        world.ended("team/s3/1.zip", &Ok(()), 113);
        drop(first);
        assert!(world.ask("team/vpc/1.zip", 113).is_ok(), "each finds out");
        assert!(world.ask("team/full/1.zip", 0).is_err());
    }

    #[test]
    fn folders_that_were_not_tried_are_tried_one_at_a_time_and_not_for_ever() {
        let world = World::new();
        for folder in ["vpc", "eks", "rds"] {
            world.ended(&format!("team/{folder}/1.zip"), &denied(), 0);
        }
        let hangs = world.ask("team/s3/1.zip", 10).unwrap();
        assert!(world.ask("team/s4/1.zip", 39).is_err() && world.ask("team/s4/1.zip", 40).is_ok());
        drop(hangs);
        world.ended("team/s3/1.zip", &denied(), 41);
        assert_eq!(held(world.ask("team/s4/1.zip", 43)), Some((true, 4)));
        assert!(world.ask("team/vpc/1.zip", 41 + 2 * 3600).is_ok(), "what met it may be gone");
        assert!(world.refusals.locked().values().all(HashMap::is_empty));
    }

    #[test]
    fn who_asks_for_it_gets_an_attempt_unless_many_were_refused_just_now() {
        let world = World::new();
        for second in [0, 3, 9, 21] {
            world.ended("vpc/1.zip", &denied(), second);
        }
        assert!(world.refusals.ask(&at("vpc/2.zip"), &world.encryption, true, world.now(22)).is_ok());
        for _ in 0..MANY {
            world.ended("vpc/1.zip", &denied(), 21);
        }
        let asked =
            |seconds| world.refusals.ask(&at("vpc/2.zip"), &world.encryption, true, world.now(seconds));
        assert!(asked(22).is_err() && asked(27).is_ok() && asked(27).is_ok());
        assert!(world.ask("vpc/3.zip", 27).is_err());
    }

    #[test]
    fn a_delay_that_s3_asks_for_is_kept_and_memory_is_bounded() {
        let world = World::new();
        let slow = |seconds| Err(Cause::SlowDown { retry_after: Some(Duration::from_secs(seconds)) });
        world.ended("vpc/1.zip", &slow(60), 0);
        assert!(world.ask("vpc/2.zip", 59).is_err() && world.ask("vpc/2.zip", 60).is_ok());
        for second in [60, 120, 180, 240] {
            world.ended("vpc/1.zip", &slow(1), second);
        }
        assert!(
            world.ask("vpc/2.zip", 245).is_err(),
            "it asks for a second each time, and is still too busy"
        );
        for n in 0..2 * MAX_TARGETS {
            world.ended(&format!("team-{n}/vpc/1.zip"), &denied(), 0);
            world.ended(&format!("team/{n}/1.zip"), &denied(), 0);
        }
        let all = world.refusals.locked();
        let folders = all.values().flat_map(|kinds| kinds.values().map(|refusal| refusal.folders.len()));
        assert!(all.len() <= MAX_TARGETS && folders.max().unwrap() <= MAX_FOLDERS);
    }
}
