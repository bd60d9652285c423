//! Each limit at its last allowed value and one beyond.

use super::*;
use crate::archive::SkipReason;
use crate::archive::limits::{PATH_BYTES, TARGET_BYTES};
use crate::archive::links::NESTED;
use crate::archive::tree::{Layout, TreeBuilder};

/// Normalises `raw` with the default limits after `change`.
fn limited(raw: &[u8], change: impl Fn(&mut Limits)) -> Result<(), ArchiveError> {
    let mut limits = Limits::default();
    change(&mut limits);
    run(raw, ArchiveFormat::Zip, &limits).map(|_| ())
}

#[test]
fn archive_bytes() {
    for pack in PACKS {
        let raw = pack.pack(&in_top(&[file("a", "1")]));
        let len = raw.len() as u64;
        limited(&raw, |limits| limits.archive_bytes = len).unwrap();
        let error = limited(&raw, |limits| limits.archive_bytes = len - 1).unwrap_err();
        assert!(matches!(error, ArchiveError::ArchiveTooLarge { limit } if limit == len - 1), "{error:?}");
    }
}

#[test]
fn unpacked_bytes_with_links_followed() {
    let cases = [
        (&[file("a", [b'x'; 700]), file("b", [b'y'; 300])][..], 1000),
        (&[file("a", [b'x'; 700]), link("b", "a"), link("c", "b")], 2100),
        (&[file("d/a", [b'x'; 100]), link("e", "d"), link("f", "e/a")], 300),
    ];
    for (items, bytes) in cases {
        for pack in PACKS {
            let raw = pack.pack(&in_top(items));
            limited(&raw, |limits| limits.unpacked_bytes = bytes).unwrap();
            let error = limited(&raw, |limits| limits.unpacked_bytes = bytes - 1).unwrap_err();
            assert!(matches!(error, ArchiveError::UnpackedTooLarge { .. }), "{error:?}");
        }
    }
}

#[test]
fn entries_with_links_followed() {
    let cases = [
        (&[folder("d/"), file("d/a", ""), file("b", "")][..], 3),
        (&[folder("d/"), file("d/a", ""), file("d/b", ""), link("l", "d"), link("m", "d/a")], 7),
    ];
    for (items, entries) in cases {
        for pack in PACKS {
            let raw = pack.pack(&in_top(items));
            limited(&raw, |limits| limits.entries = entries).unwrap();
            let error = limited(&raw, |limits| limits.entries = entries - 1).unwrap_err();
            assert!(matches!(error, ArchiveError::TooManyEntries { .. }), "{error:?}");
        }
    }
}

#[test]
fn ratio_above_what_is_exempt() {
    for pack in PACKS {
        let raw = pack.pack(&in_top(&[file("zeros", vec![0; 1 << 20])]));
        let exact = (1_u64 << 20).div_ceil(raw.len() as u64);
        let strict = |ratio, exempt| limited(&raw, |l| (l.ratio, l.ratio_exempt_bytes) = (ratio, exempt));
        strict(exact, 0).unwrap();
        strict(1, 1 << 20).unwrap();
        for (ratio, exempt) in [(exact - 1, 0), (1, (1 << 20) - 1)] {
            let error = strict(ratio, exempt).unwrap_err();
            assert!(matches!(error, ArchiveError::RatioTooHigh { .. }), "{error:?}");
        }
    }
}

#[test]
fn zeros_pass_up_to_64_mebibytes_by_default() {
    for pack in PACKS {
        limited(&pack.pack(&in_top(&[file("zeros", vec![0; 64 << 20])])), |_| {}).unwrap();
        let bomb = pack.pack(&in_top(&[file("zeros", vec![0; (64 << 20) + 1])]));
        assert!(matches!(limited(&bomb, |_| {}), Err(ArchiveError::RatioTooHigh { ratio: 200 })));
    }
}

#[test]
fn a_zip_that_understates_its_sizes_is_still_counted() {
    let zeros = vec![0; 1 << 20];
    let mut zip = RawZip::default();
    zip.add(b"t/a", 0o100_644, &zeros, &RawEntry { size: 1, ..RawEntry::of(&zeros) });
    let error = limited(&zip.finish(b""), |limits| limits.unpacked_bytes = 10).unwrap_err();
    assert!(
        matches!(error, ArchiveError::UnpackedTooLarge { .. } | ArchiveError::Corrupt { .. }),
        "{error:?}"
    );
}

#[test]
fn headers_that_describe_nothing_are_bounded_too() {
    let member = raw_tar(b'0', b"t/a", b"", 0o644, b"1");
    let useless = pax(b'x', &[("mtime", b"1")]);
    let tar = |count| gzip(&[useless.repeat(count), member.clone(), vec![0; 1024]].concat());
    let small = |limits: &mut Limits| (limits.entries, limits.unpacked_bytes) = (1, 1);
    limited(&tar(2000), small).unwrap();
    assert!(matches!(limited(&tar(3000), small), Err(ArchiveError::Corrupt { .. })));
}

/// A path of this length, in short names.
fn path(len: usize) -> String {
    format!("{}{}", "d/".repeat((len - 1) / 2), "f".repeat(2 - len % 2))
}

#[test]
fn path_bytes() {
    // As long as Linux allows.
    assert_eq!(PATH_BYTES, 4095);
    for pack in PACKS {
        let top = |len: usize| pack.pack(&[file(&format!("t/{}", path(len - 2)), "1")]);
        for format in FORMATS {
            let (_, bytes) = run(&top(PATH_BYTES), format, &Limits::default()).unwrap();
            assert!(unpack(&bytes, format).contains_key(&path(PATH_BYTES - 2)), "{format:?}");
        }
        let error = limited(&top(PATH_BYTES + 1), |_| {}).unwrap_err();
        assert!(error.to_string().contains("is longer than 4,095 bytes"), "{error}");
    }
}

#[test]
fn target_bytes() {
    for pack in PACKS {
        let published = |len: usize| {
            let target = format!("{}f", "./".repeat((len - 1) / 2));
            assert_eq!(target.len(), len);
            let raw = pack.pack(&in_top(&[file("f", "1"), link("l", &target)]));
            let (normalised, bytes) = run(&raw, ArchiveFormat::Zip, &Limits::default()).unwrap();
            let why = normalised.report.skipped_links.first.first().map(|link| link.why);
            (unpack(&bytes, ArchiveFormat::Zip).len(), why)
        };
        assert_eq!(published(TARGET_BYTES), (2, None));
        assert_eq!(published(TARGET_BYTES + 2), (1, Some(SkipReason::Unnameable)));
        assert_eq!(published(300_001), (1, Some(SkipReason::Unnameable)), "a file that git took for a link");
        let leaves = pack.pack(&in_top(&[file("f", "1"), link("l", &"/".repeat(TARGET_BYTES + 1))]));
        assert!(matches!(limited(&leaves, |_| {}), Err(ArchiveError::LinkLeavesTree { .. })));
    }
}

#[test]
fn path_bytes_once_links_are_followed() {
    let file_at = |len: usize| [file(&format!("a/{}", path(len)), "1"), link("longer-than-top", "a")];
    publish(&file_at(PATH_BYTES - "longer-than-top/".len()));
    let raw = zip_of(&in_top(&file_at(PATH_BYTES - "longer-than-top/".len() + 1)));
    assert!(matches!(limited(&raw, |_| {}), Err(ArchiveError::BadName { .. })));
}

#[test]
fn folders_and_links_may_be_as_deep_as_a_path_is_long() {
    let deep = "d/".repeat((PATH_BYTES - "top/f".len()) / 2) + "f";
    let (_, files) = publish(&[file(&deep, "1")]);
    assert_eq!(files.keys().collect::<Vec<_>>(), [&deep]);

    // Each folder links to the next one, so that the last file is found below all of them.
    let nested = |depth: usize| {
        let next = |i| link(&format!("d{i}/l"), &format!("../d{}", i + 1));
        let items: Vec<_> = (0..depth).map(next).chain([file(&format!("d{depth}/f"), "1")]).collect();
        let small = std::thread::Builder::new().stack_size(1 << 20);
        let run = move || run(&zip_of(&in_top(&items)), ArchiveFormat::Tar, &Limits::default());
        small.spawn(run).unwrap().join().expect("little of the stack is used")
    };
    let (_, bytes) = nested(NESTED).unwrap();
    assert!(unpack(&bytes, ArchiveFormat::Tar).contains_key(&format!("d0/{}f", "l/".repeat(NESTED))));
    for depth in [NESTED + 1, (PATH_BYTES - "d0/f".len()) / "/l".len()] {
        assert!(matches!(nested(depth), Err(ArchiveError::TangledLinks)), "{depth}");
    }
}

#[test]
fn all_paths_together() {
    // It grows with the entries that are allowed, up to what 32 bits can find again.
    for (entries, most) in [(1, 1 << 20), (100_000, 16_800_000), (200_000, 33_600_000)] {
        let budget = Limits { entries, ..Limits::default() }.budget(0);
        assert_eq!(budget.paths_bytes(), most);
        let most = usize::try_from(most).unwrap();
        let mut tree =
            TreeBuilder::new(Limits { entries: 200_000, ..Limits::default() }.budget(0), Layout::TopFolder);
        budget.check_paths(most).unwrap();
        assert!(matches!(budget.check_paths(most + 1), Err(ArchiveError::PathsTooLong { .. })));
        let add = |tree: &mut TreeBuilder, i: usize, len: usize| {
            tree.add_folder(format!("t/{i:0>len$}").as_bytes())
        };
        if entries == 200_000 {
            for i in 0..most / 1000 {
                add(&mut tree, i, 1000).unwrap();
            }
            let error = add(&mut tree, 0, 1).unwrap_err();
            assert!(matches!(error, ArchiveError::PathsTooLong { .. }), "{error:?}");
            assert!(error.to_string().contains("--max-entries"), "{error}");
        }
    }
    let most = Limits { entries: u64::MAX, ..Limits::default() }.budget(0).paths_bytes();
    assert_eq!(most, u64::from(u32::MAX));
}

#[test]
fn paths_of_copies_count_against_the_same_limit_and_others_count_once() {
    let mut items: Vec<_> = (0..200).map(|i| file(&format!("d/{i:03}/{}", path(4000)), "")).collect();
    let allowed = |items: &[Item]| limited(&zip_of(&in_top(items)), |limits| limits.entries = 1000);
    allowed(&items).unwrap();
    items.push(link("l", "d"));
    let error = allowed(&items).unwrap_err();
    assert!(matches!(error, ArchiveError::PathsTooLong { limit: 1_048_576 }), "{error:?}");
}

#[test]
fn nests_of_links_end_soon() {
    // Two links in each folder to the next one: 2^30 files, or none at all.
    for bottom in [file("d30/f", "1"), folder("d30/")] {
        let mut items = vec![bottom, file("f", "1")];
        for i in 0..30 {
            items.extend(["a", "b"].map(|name| link(&format!("d{i}/{name}"), &format!("../d{}", i + 1))));
        }
        let error = limited(&zip_of(&in_top(&items)), |_| {}).unwrap_err();
        assert!(matches!(error, ArchiveError::TooManyEntries { .. }), "{error:?}");
    }
}

#[test]
fn long_ways_through_links_end_soon() {
    let zigzag = "d/../".repeat(200);
    let mut items = vec![file("d/f", "1"), link("l0", &(zigzag.clone() + "d/f"))];
    items.extend((1..30).map(|i| link(&format!("l{i}"), &format!("{zigzag}l{}", i - 1))));
    publish(&items);
    let error = limited(&zip_of(&in_top(&items)), |limits| limits.entries = 100).unwrap_err();
    assert!(matches!(error, ArchiveError::TangledLinks), "{error:?}");
    // Of each of these targets, one component is looked up.
    let rest = "/".repeat(4094);
    let mut items = vec![file("f", "1"), link("a", &format!("b{rest}")), link("b", &format!("a{rest}"))];
    items.extend((0..40).map(|i| link(&format!("l{i}"), "a")));
    let error = limited(&zip_of(&in_top(&items)), |limits| limits.entries = 100).unwrap_err();
    assert!(matches!(error, ArchiveError::TangledLinks), "{error:?}");
    // Below a long path, the same way counts for more.
    for (folder, tangled) in [(String::new(), false), (format!("{}/", "d".repeat(200)).repeat(18), true)] {
        let mut items = vec![file(&format!("{folder}x/f"), "1")];
        items.extend((0..30).map(|i| link(&format!("{folder}l{i}"), &("x/../".repeat(200) + "x/f"))));
        let outcome = limited(&zip_of(&in_top(&items)), |limits| limits.entries = 500);
        assert_eq!(matches!(outcome, Err(ArchiveError::TangledLinks)), tangled, "{outcome:?}");
    }
}
