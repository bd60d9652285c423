//! What becomes of symbolic links.

use super::*;
use crate::archive::{Listed, SkipReason, SkippedLink};

/// Normalises from either packing, and returns `path=content` for each file and the links left out.
fn followed(items: &[Item]) -> (Vec<String>, Vec<(String, SkipReason)>) {
    let mut outcomes = PACKS.map(|pack| {
        let raw = pack.pack(&in_top(items));
        let (normalised, bytes) = run(&raw, ArchiveFormat::Tar, &Limits::default()).unwrap();
        let Listed { first, total } = normalised.report.skipped_links;
        let skipped: Vec<_> = first.into_iter().map(|link| (link.path, link.why)).collect();
        assert_eq!(total, skipped.len());
        let files = unpack(&bytes, ArchiveFormat::Tar).into_iter();
        let files = files.map(|(path, file)| format!("{path}={}", String::from_utf8(file.data).unwrap()));
        (files.collect::<Vec<_>>(), skipped)
    });
    assert_eq!(outcomes[0], outcomes[1]);
    std::mem::take(&mut outcomes[0])
}

fn assert_followed(items: &[Item], files: &[&str]) {
    assert_eq!(followed(items), (files.iter().map(ToString::to_string).collect(), vec![]));
}

fn assert_skipped(items: &[Item], files: &[&str], skipped: &[(&str, SkipReason)]) {
    let skipped = skipped.iter().map(|(path, why)| (path.to_string(), *why)).collect();
    assert_eq!(followed(items), (files.iter().map(ToString::to_string).collect(), skipped));
}

#[test]
fn a_link_to_a_file_is_its_copy() {
    assert_followed(&[file("a", "1"), link("b", "a")], &["a=1", "b=1"]);
    assert_followed(&[file("a", "1"), link("d/b", "../a")], &["a=1", "d/b=1"]);
    assert_followed(&[file("d/a", "1"), link("b", "./d//a")], &["b=1", "d/a=1"]);
    assert_followed(&[file("d/e/a", "1"), link("d/b", "e/../e/./a")], &["d/b=1", "d/e/a=1"]);
}

#[test]
fn a_link_to_a_script_can_be_executed() {
    let (_, files) = publish(&[script("run", "1"), link("link", "run"), file("plain", "2")]);
    let modes: Vec<_> = files.values().map(|file| file.mode).collect();
    assert_eq!(modes, [0o755, 0o644, 0o755]);
}

#[test]
fn a_link_to_a_folder_is_its_copy() {
    let items = [file("d/a", "1"), file("d/e/b", "2"), link("l", "d"), link("m/n", "../d/e/")];
    assert_followed(&items, &["d/a=1", "d/e/b=2", "l/a=1", "l/e/b=2", "m/n/b=2"]);
}

#[test]
fn links_to_links_are_followed_as_the_kernel_does() {
    assert_followed(&[file("a", "1"), link("b", "a"), link("c", "b")], &["a=1", "b=1", "c=1"]);
    // `..` after a link is the parent of where the link leads, not of where it is.
    let items = [file("x/y/f", "1"), file("x/z", "2"), link("l", "x/y"), link("m", "l/../z")];
    assert_followed(&items, &["l/f=1", "m=2", "x/y/f=1", "x/z=2"]);
    // Links inside a copied folder lead where they led before.
    let items = [file("a", "1"), link("d/e/l", "../../a"), link("copy", "d")];
    assert_followed(&items, &["a=1", "copy/e/l=1", "d/e/l=1"]);
}

#[test]
fn output_stays_sorted_when_links_are_replaced() {
    let items = [file("z/f", "1"), link("a", "z"), file("a-b", "2"), file("a.b", "3")];
    assert_followed(&items, &["a-b=2", "a.b=3", "a/f=1", "z/f=1"]);
}

#[test]
fn a_link_to_an_empty_folder_is_left_out() {
    let items = [file("a", "1"), folder("submodule/"), link("l", "submodule")];
    assert_skipped(&items, &["a=1"], &[("l", SkipReason::PointsToSubmodule)]);
}

#[test]
fn dangling_links_are_left_out() {
    for target in ["b", "", "a/", "a/.", "a/..", "d/b", "l/x", "../d/b", "A"] {
        let items = [file("d/a", "1"), link("d/l", target)];
        let why = if target == "l/x" { SkipReason::Loops } else { SkipReason::Dangles };
        assert_skipped(&items, &["d/a=1"], &[("d/l", why)]);
    }
}

#[test]
fn loops_are_left_out() {
    assert_skipped(&[file("f", "1"), link("a", "a")], &["f=1"], &[("a", SkipReason::Loops)]);
    let items = [file("f", "1"), link("a", "b"), link("b", "a")];
    assert_skipped(&items, &["f=1"], &[("a", SkipReason::Loops), ("b", SkipReason::Loops)]);
}

#[test]
fn forty_links_in_a_row_are_followed_and_one_more_is_not() {
    let mut items = vec![file("f", "1"), link("l01", "f")];
    items.extend((2..=41).map(|i| link(&format!("l{i:02}"), &format!("l{:02}", i - 1))));
    let (files, skipped) = followed(&items);
    assert_eq!(files.len(), 41);
    assert_eq!(skipped, [("l41".to_owned(), SkipReason::Loops)]);
}

#[test]
fn links_to_a_folder_around_them_are_left_out() {
    for target in [".", "..", "../d", "../up", "e/.."] {
        let items = [file("d/a", "1"), file("d/e/b", "2"), link("d/l", target), link("up", "d")];
        let (files, skipped) = followed(&items);
        assert_eq!(files, ["d/a=1", "d/e/b=2", "up/a=1", "up/e/b=2"]);
        let paths: Vec<_> = skipped.iter().map(|(path, why)| (path.as_str(), *why)).collect();
        let ancestor = SkipReason::PointsToAncestor;
        assert_eq!(paths, [("d/l", ancestor), ("up/l", ancestor)]);
    }
}

#[test]
fn folders_that_link_to_each_other_are_copied_once() {
    let items = [file("a/f", "1"), link("a/x", "../b"), file("b/g", "2"), link("b/y", "../a")];
    assert_skipped(
        &items,
        &["a/f=1", "a/x/g=2", "b/g=2", "b/y/f=1"],
        &[("a/x/y", SkipReason::PointsToAncestor), ("b/y/x", SkipReason::PointsToAncestor)],
    );
}

#[test]
fn the_first_twenty_links_left_out_are_named_and_all_are_counted() {
    let mut items = vec![file("f", "1")];
    items.extend((0..30).rev().map(|i| link(&format!("l{i:02}"), "nowhere")));
    let (normalised, _) = publish(&items);
    let skipped = normalised.report.skipped_links;
    assert_eq!((skipped.total, skipped.first.len()), (30, 20));
    let last = SkippedLink { path: "l19".into(), target: "nowhere".into(), why: SkipReason::Dangles };
    assert_eq!(skipped.first[19], last);
}
