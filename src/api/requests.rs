//! Requests for a full sync, in the forms in which annotations and status fields record them.
//!
//! - A request token is the value of the annotation `requestedAt` or `module-request`, shortened by [`shorten`].
//! - [`ForceToken`] is `status.forceToken` of a Module.
//! - [`PendingForce`] is `status.pendingForce` of a Version.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use uuid::Uuid;

use super::{MODULE_REQUEST, REQUESTED_AT};
use crate::domain::text::hex;

/// Longest token that is kept as written, in bytes. An annotation may hold 256 KiB, and a token is kept in memory for
/// each object that carries one.
const LONGEST_TOKEN: usize = 256;

/// `status.forceToken` of a Module: the open request, or the generation whose request is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ForceToken<'a> {
    /// Any text that does not start with `done:`. The operator makes UUIDs: version 4 if the request includes
    /// `spec.forceSync`, version 7 if it does not.
    Open(&'a str),
    /// `done:<generation>`. Generation 0 answers a request that did not include `spec.forceSync`.
    Done(i64),
}

impl<'a> ForceToken<'a> {
    /// Reads a recorded token. `None` if it starts with `done:` and no generation follows: such a token is neither open
    /// nor does it answer a request.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        match text.strip_prefix("done:") {
            Some(generation) => Some(Self::Done(generation_from(generation)?)),
            None => Some(Self::Open(text)),
        }
    }

    /// A new unique token. `force_sync`: whether the request includes `spec.forceSync`.
    pub(crate) fn create(force_sync: bool) -> String {
        if force_sync { Uuid::new_v4() } else { Uuid::now_v7() }.to_string()
    }

    /// Whether the request includes `spec.forceSync`. A token of unknown origin does.
    pub(crate) fn includes_force_sync(self) -> bool {
        let Self::Open(token) = self else { return true };
        !Uuid::parse_str(token).is_ok_and(|uuid| uuid.get_version_num() == 7)
    }
}

impl fmt::Display for ForceToken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(token) => f.write_str(token),
            Self::Done(generation) => write!(f, "done:{generation}"),
        }
    }
}

/// `status.pendingForce` of a Version: what remains to be done for a forced sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PendingForce {
    /// `retry:<generation>`: the sync failed for a transient reason and is retried. Generation 0: `spec.forceSync` was not
    /// part of the request.
    Retry(i64),
    /// `done:<generation>`: the sync ended, and `spec.forceSync` of this generation is still to be reset.
    Done(i64),
}

impl PendingForce {
    /// Reads the recorded value. A value that is neither `retry:` nor `done:` counts as none.
    pub fn parse(recorded: Option<&str>) -> Option<Self> {
        let (state, generation) = recorded?.split_once(':')?;
        let generation = generation_from(generation)?;
        match state {
            "retry" => Some(Self::Retry(generation)),
            "done" => Some(Self::Done(generation)),
            _ => None,
        }
    }

    /// Whether `spec.forceSync` of this generation was handled, with or without success.
    pub fn handles(self, generation: i64) -> bool {
        let (Self::Retry(at) | Self::Done(at)) = self;
        at == generation
    }
}

impl fmt::Display for PendingForce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retry(generation) => write!(f, "retry:{generation}"),
            Self::Done(generation) => write!(f, "done:{generation}"),
        }
    }
}

/// A generation as it is printed: without sign and leading zeros.
fn generation_from(text: &str) -> Option<i64> {
    text.parse().ok().filter(|generation: &i64| *generation >= 0 && generation.to_string() == text)
}

/// The token as it is compared and recorded: itself, or `sha256:HEX` if it is longer than 256 bytes. Shortening twice
/// changes nothing.
pub(crate) fn shorten(token: &str) -> Cow<'_, str> {
    if token.len() <= LONGEST_TOKEN {
        return Cow::Borrowed(token);
    }
    Cow::Owned(format!("sha256:{}", hex(digest(&SHA256, token.as_bytes()).as_ref())))
}

/// Shortens the tokens among an object's annotations.
pub(crate) fn shorten_annotations(annotations: &mut BTreeMap<String, String>) {
    for key in [REQUESTED_AT, MODULE_REQUEST] {
        if let Some(token) = annotations.get_mut(key) {
            shorten_recorded(token);
        }
    }
}

/// Shortens a recorded token in place: an earlier release recorded long ones as written.
pub(crate) fn shorten_recorded(token: &mut String) {
    if let Cow::Owned(short) = shorten(token) {
        *token = short;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn force_tokens_are_parsed_and_printed() {
        let v7 = Uuid::now_v7().to_string();
        for (text, token, force_sync) in [
            ("done:3", Some(ForceToken::Done(3)), true),
            ("done:0", Some(ForceToken::Done(0)), true),
            ("done:", None, true),
            ("done:x", None, true),
            ("done:03", None, true),
            ("done:-1", None, true),
            ("a token", Some(ForceToken::Open("a token")), true),
            ("0b5e2c5e-0d0b-4c3e-9a53-5f1f2e3d4c5b", None, true),
            (&v7, None, false),
        ] {
            let parsed = ForceToken::parse(text);
            let uuid = Uuid::parse_str(text).is_ok();
            assert_eq!(parsed, if uuid { Some(ForceToken::Open(text)) } else { token }, "{text}");
            if let Some(parsed) = parsed {
                assert_eq!((parsed.to_string().as_str(), parsed.includes_force_sync()), (text, force_sync));
            }
        }
        for force_sync in [true, false] {
            let token = ForceToken::create(force_sync);
            assert_eq!(ForceToken::parse(&token).unwrap().includes_force_sync(), force_sync);
        }
    }

    #[test]
    fn pending_forces_are_parsed_and_printed() {
        for (text, pending) in [("retry:0", PendingForce::Retry(0)), ("retry:5", PendingForce::Retry(5))]
            .into_iter()
            .chain([("done:5", PendingForce::Done(5))])
        {
            assert_eq!(PendingForce::parse(Some(text)), Some(pending));
            assert_eq!(pending.to_string(), text);
            assert!(!pending.handles(4) && (pending.handles(5) || text == "retry:0"), "{text}");
        }
        for text in ["", "retry", "retry:", "retry:x", "done:05", "done:+5", "done:-5", "other:5"] {
            assert_eq!(PendingForce::parse(Some(text)), None, "{text:?}");
        }
        assert_eq!(PendingForce::parse(None), None);
    }

    #[test]
    fn long_tokens_are_hashed_and_short_ones_kept() {
        let (longest, long) = ("é".repeat(128), "x".repeat(257));
        assert_eq!(shorten(&longest), longest);
        let short = shorten(&long).into_owned();
        assert_eq!(short, "sha256:15eb95a462ee20bd91a415ae2d4aed341288186ddaa2b37908f7d592f0c3f85f");
        assert_eq!(shorten(&short), short);
        let mut annotations =
            BTreeMap::from([(REQUESTED_AT.to_owned(), long), ("other".to_owned(), longest)]);
        let other = annotations["other"].clone();
        shorten_annotations(&mut annotations);
        assert_eq!(
            annotations,
            BTreeMap::from([(REQUESTED_AT.to_owned(), short), ("other".to_owned(), other)])
        );
    }
}
