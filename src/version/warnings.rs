//! Warning Events about an archive that was stored: one of each kind. Pure.

use crate::archive::{Listed, Report};
use crate::controller::events::Event;
use crate::controller::failure::Reason;
use crate::domain::text::{and_more, counted};

/// The most bytes of listed names: an Event's note has at most 1,000.
const LISTED_BYTES: usize = 500;
/// The most names that are listed.
const LISTED: usize = 5;

/// The warnings about an archive that was stored.
pub(crate) fn of_archive(report: &Report) -> Vec<Event> {
    let mut events = Vec::new();
    let mut add = |reason: Reason, note| events.push(Event::warning(reason.as_str(), "Publish", note));
    let Report { skipped_links, skipped_files, submodules, lfs_pointers } = report;
    if skipped_links.total > 0 {
        let links = list(skipped_links, |link| format!("{} -> {} ({})", link.path, link.target, link.why));
        let what = counted(skipped_links.total, "symbolic link is", "symbolic links are");
        add(
            Reason::LinksSkipped,
            format!("{what} left out of the stored archive, as Terraform could not use them: {links}."),
        );
    }
    if skipped_files.total > 0 {
        let what = counted(skipped_files.total, "file is", "files are");
        let files = list(skipped_files, Clone::clone);
        add(
            Reason::FilesSkipped,
            format!(
                "{what} left out of the stored archive because of the path (not UTF-8, a control character, a backslash, \
                 a name of more than 255 bytes, or a drive letter at its start): {files}. Rename them in the repository if \
                 the module needs them."
            ),
        );
    }
    if let Some(first) = submodules.first.first() {
        let what = counted(submodules.total, "git submodule is", "git submodules are");
        add(
            Reason::SubmodulesEmpty,
            format!(
                "{what} empty in the stored archive, as in all archives from GitHub: the first is {first}. If \
                 the module uses files of a git submodule, it cannot be installed: copy them into the repository, or call \
                 that repository by its own source."
            ),
        );
    }
    if let Some(first) = lfs_pointers.first.first() {
        let what = counted(lfs_pointers.total, "file is", "files are");
        add(
            Reason::LfsPointers,
            format!(
                "{what} stored as a Git LFS pointer, not as the content: the first is {first}. Switch on \"Include Git \
                 LFS objects in archives\" in the repository's settings and publish a new version, or keep the content \
                 in git itself."
            ),
        );
    }
    events
}

/// The first few items, as far as there is room, and the number of the others.
fn list<T>(all: &Listed<T>, show: impl Fn(&T) -> String) -> String {
    let names: Vec<String> = all.first.iter().take(LISTED).map(show).collect();
    and_more(&names, LISTED_BYTES, all.total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::{SkipReason, SkippedLink};

    fn names(count: usize, len: usize) -> Listed<String> {
        let first = (0..count.min(20)).map(|i| format!("{i:0>len$}")).collect();
        Listed { first, total: count }
    }

    #[test]
    fn an_ordinary_archive_has_nothing_to_say() {
        assert_eq!(of_archive(&Report::default()), []);
    }

    #[test]
    fn each_kind_is_one_note_that_counts_all_and_names_the_first() {
        let link = SkippedLink { path: "a".into(), target: r"b\n".into(), why: SkipReason::Unnameable };
        let report = Report {
            skipped_links: Listed { first: vec![link], total: 1 },
            skipped_files: names(7, 1),
            submodules: names(1, 1),
            lfs_pointers: names(46, 1),
        };
        let notes = of_archive(&report);
        let expected = [
            (Reason::LinksSkipped, "1 symbolic link is ", r"a -> b\n (points to an impossible file name)."),
            (
                Reason::FilesSkipped,
                "7 files are ",
                "or a drive letter at its start): 0, 1, 2, 3, 4 and 2 more.",
            ),
            (Reason::SubmodulesEmpty, "1 git submodule is ", "the first is 0."),
            (Reason::LfsPointers, "46 files are ", "the first is 0."),
        ];
        assert_eq!(notes.len(), expected.len());
        for (note, (reason, begins, word)) in notes.iter().zip(expected) {
            assert_eq!((note.reason.as_str(), note.is_warning), (reason.as_str(), true));
            assert!(note.note.starts_with(begins) && note.note.contains(word), "{}", note.note);
            assert!(reason.is_note());
        }
    }

    #[test]
    fn a_note_fits_into_an_event_and_keeps_its_count() {
        let longest = |i: u32| SkippedLink {
            path: format!("{i}{}", "é".repeat(199)),
            target: "é".repeat(200),
            why: SkipReason::PointsToSubmodule,
        };
        let report = Report {
            skipped_links: Listed { first: (0..20).map(longest).collect(), total: 1000 },
            skipped_files: names(1000, 200),
            submodules: names(1000, 200),
            lfs_pointers: names(1000, 200),
        };
        for note in of_archive(&report) {
            assert!(note.note.starts_with("1000 ") && note.note.len() <= 1000 + 200, "{}", note.note);
        }
    }
}
