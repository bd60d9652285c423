//! Each kind of archive that must not be published, and what is said about it.

use super::*;

fn refused(raw: &[u8]) -> ArchiveError {
    for format in FORMATS {
        let error = run(raw, format, &Limits::default()).map(|_| ()).unwrap_err();
        assert!(!error.to_string().is_empty());
    }
    run(raw, ArchiveFormat::Zip, &Limits::default()).map(|_| ()).unwrap_err()
}

macro_rules! assert_refused {
    ($raw:expr, $pattern:pat) => {
        let error = refused(&$raw);
        assert!(matches!(error, $pattern), "expected {}, got {error:?}", stringify!($pattern));
    };
}

macro_rules! refusals {
    ($($name:ident: $items:expr => $pattern:pat,)*) => {$(
        #[test]
        fn $name() {
            for pack in PACKS {
                let items: Vec<Item> = $items.into();
                assert_refused!(pack.pack(&items), $pattern);
            }
        }
    )*};
}

fn special(tar: u8, zip: u32) -> [Item; 1] {
    [Item { path: b"t/special".into(), kind: Kind::Special { tar, zip } }]
}

refusals! {
    absolute_path: [file("/t/a", "")] => ArchiveError::AbsolutePath { .. },
    parent_path: [file("t/a/../b", "")] => ArchiveError::ParentPath { .. },
    parent_path_at_the_end: [folder("t/a/../")] => ArchiveError::ParentPath { .. },
    parent_path_at_the_start: [file("../a", "")] => ArchiveError::ParentPath { .. },
    dot_path: [file("t/./a", "")] => ArchiveError::BadName { .. },
    empty_component: [file("t//a", "")] => ArchiveError::BadName { .. },
    empty_name: [file("t/a", ""), file("", "")] => ArchiveError::BadName { .. },
    slash_at_the_end_of_a_link: [file("t/a", ""), link("t/b/", "a")] => ArchiveError::BadName { .. },
    drive_letter: [file("t/C:/a.tf", "")] => ArchiveError::BadName { .. },
    drive_letter_without_a_slash: [file("t/a", ""), link("t/c:b.tf", "a")] => ArchiveError::BadName { .. },
    ten_thousand_levels: [file(&format!("t/{}f", "d/".repeat(10_000)), "")] => ArchiveError::BadName { .. },
    odd_configuration: [file("t/a", ""), file("t/a\u{7}.tf", "")] => ArchiveError::BadName { .. },
    odd_top_folder: [file("t\u{7}/a", "")] => ArchiveError::BadName { .. },
    only_odd_names: [file("t/a\u{7}", ""), file("t/..\\a", ""), file("t/a\nb", "")] => ArchiveError::Empty,
    nothing: [] => ArchiveError::Empty,
    only_folders: [folder("t/"), folder("t/a/")] => ArchiveError::Empty,
    only_a_dangling_link: [link("t/a", "b")] => ArchiveError::Empty,
    no_top_folder: [file("main.tf", "")] => ArchiveError::NoTopFolder { .. },
    two_top_folders: [file("t/a", ""), file("u/a", "")] => ArchiveError::NoTopFolder { .. },
    link_as_top: [link("t", "u")] => ArchiveError::NoTopFolder { .. },
    duplicate_file: [file("t/a", "1"), file("t/b", ""), file("t/a", "2")] => ArchiveError::Duplicate { .. },
    duplicate_folder: [file("t/a/b", ""), folder("t/a/"), folder("t/a/")] => ArchiveError::Duplicate { .. },
    duplicate_top: [folder("t/"), file("t/a", "1"), folder("t/")] => ArchiveError::Duplicate { .. },
    file_and_link: [file("t/a", "1"), link("t/a", "b")] => ArchiveError::Duplicate { .. },
    file_and_folder: [file("t/a", ""), folder("t/a/")] => ArchiveError::FileIsFolder { .. },
    file_with_entries: [file("t/a", ""), file("t/a-b", ""), file("t/a/b", "")] => ArchiveError::FileIsFolder { .. },
    link_with_entries: [link("t/a", "b"), file("t/a/b", ""), file("t/b/c", "")] => ArchiveError::FileIsFolder { .. },
    fifo: special(b'6', 0o010_644) => ArchiveError::SpecialFile { .. },
    character_device: special(b'3', 0o020_644) => ArchiveError::SpecialFile { .. },
    block_device: special(b'4', 0o060_644) => ArchiveError::SpecialFile { .. },
    socket: special(b's', 0o140_644) => ArchiveError::SpecialFile { .. },
    link_leaves: [link("t/a", "../u"), file("t/b", "")] => ArchiveError::LinkLeavesTree { .. },
    link_leaves_absolutely: [link("t/a", "/t/b"), file("t/b", "")] => ArchiveError::LinkLeavesTree { .. },
    link_leaves_on_the_way: [link("t/a", "../t/b"), file("t/b", "")] => ArchiveError::LinkLeavesTree { .. },
    link_leaves_with_a_newline: [link("t/a", "../../etc/passwd\n"), file("t/b", "")]
        => ArchiveError::LinkLeavesTree { .. },
    link_leaves_absolutely_with_a_newline: [link("t/a", "/b\n"), file("t/b", "")]
        => ArchiveError::LinkLeavesTree { .. },
    link_leaves_through_a_link: [link("t/d/a", "../up/../.."), link("t/up", "d"), file("t/d/f", "")]
        => ArchiveError::LinkLeavesTree { .. },
}

#[test]
fn what_is_no_archive_is_named() {
    let cases = [
        (&b"\n <!DOCTYPE html>"[..], "HTML"),
        (b"404: Not Found", "404: Not Found"),
        (b"PK\x03\x05", "PK\\u{3}\\u{5}"),
        (b"PL", "PL"),
        (b"\x1f\x8c", "\\u{1f}\\x8c"),
    ];
    for (raw, hint) in cases {
        let error = refused(raw);
        assert!(matches!(error, ArchiveError::NotAnArchive { .. }), "{error:?}");
        assert!(error.to_string().contains(hint), "{error}");
    }
}

/// What a proxy passes on when GitHub's side breaks off at once is not distinguished from what breaks off later.
#[test]
fn what_ends_within_its_first_bytes_is_corrupt() {
    for raw in [&b""[..], b"P", b"PK", b"PK\x03", b"PK\x05", b"\x1f"] {
        let error = refused(raw);
        assert!(matches!(error, ArchiveError::Corrupt { .. }), "{error:?}");
        let end = if raw.is_empty() { "it is empty" } else { "it ends after" };
        assert!(error.to_string().contains(end), "{error}");
    }
}

#[test]
fn no_name_is_cut_at_a_nul() {
    let nul = file("t/a\0b.tf", "");
    assert_refused!(zip_of(std::slice::from_ref(&nul)), ArchiveError::BadName { .. });
    let tar = [pax(b'x', &[("path", &nul.path)]), tar_of(&[file("t/c", "")])[1024..].to_vec()];
    assert_refused!(gzip(&tar.concat()), ArchiveError::BadName { .. });
}

#[test]
fn a_link_that_leaves_is_named_by_its_own_path() {
    for (path, target) in [("t/d/a", "../../u"), ("t/d/a", "/etc/passwd"), ("t/d/b\n", "../../../u\u{202e}")]
    {
        let error = refused(&zip_of(&[link(path, target), file("t/b", "")])).to_string();
        let path = path.trim_start_matches("t/").replace('\n', "\\n");
        assert!(error.contains(&format!("symbolic link `{path}` points to")), "{error}");
    }
}

#[test]
fn a_stranger_s_names_are_escaped_and_cut_in_messages() {
    let name = format!("t/\x1b]0;{}.tf", "\u{202e}x".repeat(200));
    let message = refused(&zip_of(&[file(&name, "")])).to_string();
    assert!(message.is_ascii() || message.contains('…'));
    assert!(message.chars().count() < 300 && !message.chars().any(|c| c.is_control() || c == '\u{202e}'));
}

#[test]
fn hard_links_and_sparse_files_are_refused() {
    let hard = [file("t/a", "1")].into_iter().chain(special(b'1', 0)).collect::<Vec<_>>();
    assert_refused!(gzip(&tar_of(&hard)), ArchiveError::SpecialFile { kind: "a hard link", .. });
    for kind in [b'S', b'7', b'D', b'V'] {
        assert_refused!(gzip(&tar_of(&special(kind, 0))), ArchiveError::SpecialFile { .. });
    }
    let sparse = [pax(b'x', &[("GNU.sparse.major", b"1")]), tar_of(&[file("t/a", "1")])[1024..].to_vec()];
    assert_refused!(gzip(&sparse.concat()), ArchiveError::SpecialFile { kind: "a sparse file", .. });
}

#[test]
fn a_zip_cut_anywhere_is_refused() {
    let raw = zip_of(&in_top(&[file("main.tf", "terraform {}"), script("run.sh", "x".repeat(500))]));
    for end in 4..raw.len() - COMMIT.len() {
        assert_refused!(raw[..end], ArchiveError::Corrupt { .. });
    }
}

#[test]
fn a_tar_gz_cut_anywhere_is_refused() {
    let raw =
        Pack::TarGz.pack(&in_top(&[file("main.tf", "terraform {}"), script("run.sh", "x".repeat(500))]));
    for end in 2..raw.len() {
        assert_refused!(raw[..end], ArchiveError::Corrupt { .. });
    }
}

#[test]
fn a_tar_cut_at_any_block_is_refused() {
    let tar =
        tar_of(&in_top(&[file("main.tf", "terraform {}"), file(&["long"; 30].join("/"), "x".repeat(1500))]));
    for end in (0..tar.len()).step_by(512).chain([tar.len() - 1, 700, 1100]) {
        let error = refused(&gzip(&tar[..end]));
        assert!(matches!(error, ArchiveError::Corrupt { .. }), "cut at {end}: {error:?}");
    }
}

#[test]
fn checksums_are_checked() {
    let mut raw = gzip(&tar_of(&in_top(&[file("a", "1")])));
    let crc = raw.len() - 8;
    raw[crc] ^= 1;
    assert_refused!(raw, ArchiveError::Corrupt { .. });

    let changes: [fn(&mut RawEntry); 3] =
        [|entry| entry.crc ^= 1, |entry| entry.size += 1, |entry| entry.size -= 1];
    for change in changes {
        let mut zip = RawZip::default();
        let mut entry = RawEntry::of(b"1234");
        change(&mut entry);
        zip.add(b"t/a", 0o100_644, b"1234", &entry);
        assert_refused!(zip.finish(b""), ArchiveError::Corrupt { .. });
    }
}

#[test]
fn zip_entries_that_cannot_be_read_are_named() {
    let with = |change: fn(&mut RawEntry)| {
        let mut zip = RawZip::default();
        let mut entry = RawEntry::of(b"1");
        change(&mut entry);
        zip.add(b"t/a", 0o100_644, b"1", &entry);
        zip.finish(b"")
    };
    assert_refused!(with(|entry| entry.flags = 1), ArchiveError::Encrypted { .. });
    for method in [1, 9, 12, 14, 93, 99] {
        let mut zip = RawZip::default();
        zip.add(b"t/a", 0o100_644, b"1", &RawEntry { method, ..RawEntry::of(b"1") });
        let error = refused(&zip.finish(b""));
        assert!(
            matches!(error, ArchiveError::UnsupportedMethod { .. } | ArchiveError::Corrupt { .. }),
            "method {method}: {error:?}"
        );
    }
    let mut zip = RawZip::default();
    zip.add(b"t/a/", 0o040_755, b"1", &RawEntry::of(b"1"));
    assert_refused!(zip.finish(b""), ArchiveError::Corrupt { .. });
}

#[test]
fn zip_entries_that_share_their_bytes_are_refused() {
    let mut zip = RawZip::default();
    let noise: Vec<u8> = (0..=255).collect();
    zip.add(b"t/0", 0o100_644, &noise, &RawEntry::of(&noise));
    let record = zip.directory.clone();
    for i in b'1'..b'5' {
        let mut again = record.clone();
        *again.last_mut().unwrap() = i;
        zip.directory.extend(again);
        zip.entries += 1;
    }
    assert_refused!(zip.finish(b""), ArchiveError::Corrupt { .. });
}

#[test]
fn tar_headers_that_contradict_themselves_are_refused() {
    let member = raw_tar(b'0', b"t/a", b"", 0o644, b"1");
    let end = [0; 1024];
    let cases = [
        ("two sizes", [&pax(b'x', &[("size", b"2")])[..], &member].concat()),
        ("a size that is no number", [&pax(b'x', &[("size", b"-1")])[..], &member].concat()),
        (
            "two pax paths",
            [pax(b'x', &[("path", b"t/b")]), pax(b'x', &[("path", b"t/c")]), member.clone()].concat(),
        ),
        ("a long name without an entry", [&member[..], &pax(b'x', &[("path", b"t/b")])].concat()),
        ("a global path", [&pax(b'g', &[("path", b"t/b")])[..], &member].concat()),
        ("a global target", [&pax(b'g', &[("linkpath", b"t/b")])[..], &member].concat()),
        ("a global size", [&pax(b'g', &[("size", b"1")])[..], &member].concat()),
        (
            "two global headers",
            [pax(b'g', &[("comment", b"")]), pax(b'g', &[("comment", b"")]), member.clone()].concat(),
        ),
        ("a huge extension", [&raw_tar(b'x', b"x", b"", 0, &vec![b'1'; 1025 << 10])[..], &member].concat()),
        ("a malformed extension", [&raw_tar(b'x', b"x", b"", 0, b"nonsense\n")[..], &member].concat()),
        ("a link with content", [&raw_tar(b'2', b"t/l", b"a", 0, b"1")[..], &member].concat()),
        ("a folder with content", [&raw_tar(b'5', b"t/d/", b"", 0, b"1")[..], &member].concat()),
        ("more behind the end", [&member[..], &end, &member].concat()),
        ("a header that is no header", [&member[..], &[b'x'; 512]].concat()),
        ("a mebibyte behind the end", [&member[..], &vec![0; (1 << 20) + 1024]].concat()),
    ];
    for (what, tar) in cases {
        let error = refused(&gzip(&[&tar[..], &end].concat()));
        assert!(matches!(error, ArchiveError::Corrupt { .. }), "{what}: {error:?}");
    }
    assert_refused!(
        [gzip(&[&member[..], &end].concat()), b"more".to_vec()].concat(),
        ArchiveError::Corrupt { .. }
    );
}

#[test]
fn a_full_or_missing_disk_is_not_the_archive_s_fault() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("raw");
    fs::write(&raw, zip_of(&in_top(&[file("a", "1")]))).unwrap();
    let missing = dir.path().join("missing");
    for (raw, spool) in [(&raw, &missing), (&missing, &dir.path().to_owned())] {
        let error = normalise(raw, ArchiveFormat::Zip, &Limits::default(), spool).unwrap_err();
        assert!(matches!(error, ArchiveError::Io { .. }), "{error:?}");
    }
}
