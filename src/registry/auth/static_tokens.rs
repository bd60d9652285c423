//! Static tokens: each file of `--tokens-dir` holds the SHA-256 of one token. The file's name is the user's.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};

use super::denied;
use super::identity::{Identity, Kind};
use super::settings::AccessError;
use crate::domain::Mutex;
use crate::registry::reread::{INTERVAL, read_again};

/// Static tokens begin with this.
pub(super) const PREFIX: &str = "odt_";
/// 32 bytes in base64url, the shortest encoding that is in use.
const SHORTEST_TOKEN: usize = PREFIX.len() + 43;
/// Longer files hold something else.
const LONGEST_FILE: u64 = 4096;

/// The tokens of one folder.
pub(super) struct StaticTokens {
    folder: Option<PathBuf>,
    entries: ArcSwap<Vec<Entry>>,
    /// Each problem is logged once.
    logged: Mutex<Vec<String>>,
}

/// The SHA-256 of a token, and whose it is.
type Entry = ([u8; 32], Arc<Identity>);

impl StaticTokens {
    /// Reads the folder for the first time; without a folder no token is known.
    pub(super) fn open(folder: Option<PathBuf>) -> Result<Self, AccessError> {
        let tokens = Self { folder, entries: ArcSwap::default(), logged: Mutex::default() };
        match tokens.reload() {
            Ok(()) => Ok(tokens),
            Err(error) => Err(AccessError::TokensDir { path: tokens.folder.unwrap_or_default(), error }),
        }
    }

    /// Reads the folder again, as long as it is polled. A folder that cannot be read changes nothing.
    pub(super) async fn keep_current(self: Arc<Self>) {
        let tokens = Arc::clone(&self);
        let log = move |error: &str| self.log(vec![format!("cannot read the folder: {error}")]);
        read_again(INTERVAL, move || tokens.reload(), log).await;
    }

    pub(super) fn reload(&self) -> io::Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let (entries, problems) = read(folder)?;
        self.entries.store(Arc::new(entries));
        self.log(problems);
        Ok(())
    }

    /// Whose token it is, or the reason phrase. Every entry is compared, in constant time.
    pub(super) fn find(&self, token: &str) -> Result<Arc<Identity>, &'static str> {
        if token.len() < SHORTEST_TOKEN {
            return Err(denied::SHORT_STATIC);
        }
        let sha256 = digest(&SHA256, token.as_bytes());
        let mut found = None;
        for (own, identity) in self.entries.load().iter() {
            if verify_slices_are_equal(own, sha256.as_ref()).is_ok() {
                found = Some(Arc::clone(identity));
            }
        }
        found.ok_or(denied::UNKNOWN_STATIC)
    }

    fn log(&self, problems: Vec<String>) {
        let mut logged = self.logged.lock();
        for problem in problems.iter().filter(|problem| !logged.contains(problem)) {
            let folder = self.folder.as_deref().unwrap_or(Path::new("")).display();
            tracing::warn!(%folder, problem, "a file of --tokens-dir cannot be used");
        }
        *logged = problems;
    }
}

/// The usable entries, and what is wrong with the other files.
fn read(folder: &Path) -> io::Result<(Vec<Entry>, Vec<String>)> {
    let mut problems = Vec::new();
    let mut by_digest: HashMap<[u8; 32], Vec<String>> = HashMap::new();
    for file in std::fs::read_dir(folder)? {
        let file = file?;
        let name = file.file_name();
        // Kubernetes keeps the files of a mounted Secret in `..data`.
        if name.as_encoded_bytes().starts_with(b"..") || file.path().is_dir() {
            continue;
        }
        let Some(name) = name.to_str().filter(|name| is_user_name(name)) else {
            let name = name.to_string_lossy();
            problems
                .push(format!("{name:?} is not a valid user name: use letters, digits, '-', '_' and '.'"));
            continue;
        };
        match content(&file.path()).map(|text| parse(&text)) {
            Ok(Some(sha256)) => by_digest.entry(sha256).or_default().push(name.to_owned()),
            Ok(None) => {
                problems.push(format!("{name} does not contain sha256: and 64 hexadecimal digits"));
            }
            Err(error) => problems.push(format!("{name} cannot be read: {error}")),
        }
    }
    let mut entries = Vec::new();
    for (sha256, mut names) in by_digest {
        if let [name] = &*names {
            entries.push((sha256, Arc::new(identity(name))));
        } else {
            names.sort();
            problems.push(format!("{} contain the same token, which is ignored", names.join(" and ")));
        }
    }
    problems.sort();
    Ok((entries, problems))
}

/// The keys of a Secret.
fn is_user_name(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

fn content(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(LONGEST_FILE).read_to_string(&mut text)?;
    Ok(text)
}

fn parse(text: &str) -> Option<[u8; 32]> {
    let hex = text.trim().strip_prefix("sha256:")?;
    if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut sha256 = [0; 32];
    for (at, byte) in sha256.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(sha256)
}

fn identity(name: &str) -> Identity {
    let groups = vec!["opendepot:tokens".to_owned()];
    Identity::new(Kind::Static, format!("opendepot:token:{name}"), None, groups, BTreeMap::new(), None)
}
