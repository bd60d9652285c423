//! Names that git allows and a module cannot have, links to them, and what GitHub's archives lack of a repository.

use super::*;
use crate::archive::{Listed, Report, SkipReason};

fn odd(path: &[u8], item: Item) -> Item {
    Item { path: path.to_vec(), ..item }
}

fn link_to(path: &str, target: &[u8]) -> Item {
    Item { path: path.into(), kind: Kind::Link(target.to_vec()) }
}

/// Normalises from either packing to either format; all agree. Returns the paths and the report.
fn outcome(items: &[Item]) -> Result<(Vec<String>, Report), String> {
    let mut outcomes =
        PACKS.iter().flat_map(|pack| FORMATS.map(|format| (pack, format))).map(|(pack, format)| {
            let raw = pack.pack(&in_top(items));
            let (normalised, bytes) =
                run(&raw, format, &Limits::default()).map_err(|error| error.to_string())?;
            let files = unpack(&bytes, format);
            assert_eq!(normalised.digest.to_string(), h1(&files), "{pack:?} to {format:?}");
            Ok((files.into_keys().collect(), normalised.report))
        });
    let first = outcomes.next().unwrap();
    outcomes.for_each(|other| assert_eq!(other, first));
    first
}

fn listed(names: &[&str]) -> Listed<String> {
    Listed { first: names.iter().map(ToString::to_string).collect(), total: names.len() }
}

fn skipped(report: &Report) -> Vec<(&str, &str, SkipReason)> {
    let links = report.skipped_links.first.iter();
    links.map(|link| (link.path.as_str(), link.target.as_str(), link.why)).collect()
}

#[test]
fn odd_names_are_left_out_counted_and_named() {
    let odd_names: [(&[u8], &str); 8] = [
        (b"Icon\r", r"Icon\r"),
        (b"a\nb", r"a\nb"),
        (b"caf\xe9.txt", r"caf\xe9.txt"),
        (b"caf\xe9/deep/a.txt", r"caf\xe9/deep/a.txt"),
        (b"main.tf\n", r"main.tf\n"),
        (b"old\\a.TF", r"old\\a.TF"),
        ("x\u{85}\u{202e}".as_bytes(), r"x\u{85}\u{202e}"),
        (b"z\x7f", r"z\u{7f}"),
    ];
    let mut items = vec![file("main.tf", "1"), file("ü.tf", "2")];
    items.extend(odd_names.iter().map(|(name, _)| odd(name, script("", "3"))));
    let (files, report) = outcome(&items).unwrap();
    assert_eq!(files, ["main.tf", "ü.tf"]);
    assert_eq!(report.skipped_files, listed(&odd_names.map(|(_, name)| name)));
    assert_eq!(report, Report { skipped_files: report.skipped_files.clone(), ..Report::default() });
    // The digest is that of the files that are stored.
    let alone = publish(&items[..2]).0.digest;
    items.reverse();
    assert_eq!(publish(&items).0.digest, alone);
}

#[test]
fn names_that_are_too_long_are_left_out_like_odd_ones() {
    let [longest, too_long] = [255, 256].map(|len| "n".repeat(len));
    let items = [
        file("main.tf", "1"),
        file(&format!("docs/{longest}"), "2"),
        file(&format!("docs/{too_long}"), "3"),
        file(&format!("{too_long}/a.md"), "4"),
        link("l", &too_long),
        link("m", &"m".repeat(256)),
    ];
    let (files, report) = outcome(&items).unwrap();
    assert_eq!(files, [format!("docs/{longest}"), "main.tf".to_owned()]);
    assert_eq!(report.skipped_files.total, 2);
    let why: Vec<_> = skipped(&report).iter().map(|(path, _, why)| (*path, *why)).collect();
    assert_eq!(why, [("l", SkipReason::PointsToSkipped), ("m", SkipReason::Unnameable)]);
    let error = outcome(&[file(&format!("{too_long}.tf"), "1")]).unwrap_err();
    assert!(error.contains("has a name of more than 255 bytes in its path; rename it"), "{error}");
    // The top folder is removed.
    run(&zip_of(&[file(&format!("{too_long}/main.tf"), "1")]), ArchiveFormat::Zip, &Limits::default())
        .unwrap();
}

#[test]
fn the_first_twenty_names_are_listed_and_all_are_counted() {
    let mut items = vec![file("f", "1")];
    items.extend((0..30).rev().map(|i| file(&format!("a\n{i:02}"), "1")));
    let (_, report) = outcome(&items).unwrap();
    let Listed { first, total } = report.skipped_files;
    assert_eq!((first.len(), total), (20, 30));
    assert_eq!((&*first[0], &*first[19]), (r"a\n00", r"a\n19"));
}

#[test]
fn configuration_with_an_odd_name_makes_the_archive_unusable() {
    let names: [(&[u8], &str); 8] = [
        (b"a\n.tf", r"`a\n.tf`"),
        (b"caf\xe9.tf", r"`caf\xe9.tf`"),
        (b"a\\b.tf.json", r"`a\\b.tf.json`"),
        (b"a\r.tofu", r"`a\r.tofu`"),
        (b"a\x01.tofu.json", r"`a\u{1}.tofu.json`"),
        (b"caf\xe9/main.tf", r"`caf\xe9/main.tf`"),
        (b"a/b\\/c/main.tf", r"`a/b\\/c/main.tf`"),
        ("\u{202e}\n.tf".as_bytes(), r"`\u{202e}\n.tf`"),
    ];
    for (name, shown) in names {
        let error = outcome(&[file("main.tf", "1"), odd(name, file("", "2"))]).unwrap_err();
        assert!(error.contains(shown) && error.contains("rename it in the repository"), "{error}");
    }
}

#[test]
fn folders_with_odd_names_are_judged_by_what_lies_below() {
    let below = |name: &[u8]| {
        let folder = odd(b"caf\xe9/", folder(""));
        outcome(&[file("main.tf", "1"), folder, odd(&[b"caf\xe9/", name].concat(), file("", "2"))])
    };
    assert_eq!(below(b"a.md").unwrap().1.skipped_files, listed(&[r"caf\xe9/a.md"]));
    assert!(below(b"d/a.tf").unwrap_err().contains(r"`caf\xe9/d/a.tf`"));
    let empty = outcome(&[file("main.tf", "1"), odd(b"caf\xe9/", folder(""))]).unwrap();
    let submodule = Report { submodules: listed(&[r"caf\xe9"]), ..Report::default() };
    assert_eq!(empty, (vec!["main.tf".to_owned()], submodule));
}

#[test]
fn links_with_odd_names_are_judged_by_what_they_stand_for() {
    let named = |target: &str| {
        let items = [file("main.tf", "1"), file("a.md", "2"), file("docs/b.md", "3"), file("net/c.tf", "4")];
        outcome(&[&items[..], &[odd(b"odd\n", link("", target))]].concat())
    };
    assert_eq!(named("a.md").unwrap().1.skipped_files, listed(&[r"odd\n"]));
    assert_eq!(
        named("main.tf").unwrap().1.skipped_files,
        listed(&[r"odd\n"]),
        "a name that Terraform does not read"
    );
    assert_eq!(named("docs").unwrap().1.skipped_files, listed(&[r"odd\n/b.md"]));
    assert!(named("net").unwrap_err().contains(r"`odd\n/c.tf`"));
    assert_eq!(skipped(&named("nowhere").unwrap().1), [(r"odd\n", "nowhere", SkipReason::Dangles)]);
    assert!(named("../..").unwrap_err().contains(r"symbolic link `odd\n` points to `../..`"));
    let error = outcome(&[file("main.tf", "1"), odd(b"odd\n.tf", link("", "main.tf"))]).unwrap_err();
    assert!(error.contains(r"`odd\n.tf`"), "{error}");
}

#[test]
fn links_to_what_no_file_can_be_called_are_left_out() {
    let targets: [(&[u8], &str); 7] = [
        (b"a.tf\n", r"a.tf\n"),
        (b"../d/a.tf\n", r"../d/a.tf\n"),
        (b"a\xff", r"a\xff"),
        (b"..\\d\\a.tf", r"..\\d\\a.tf"),
        (b"\x1b[31m", r"\u{1b}[31m"),
        (b"\xff/a.tf", r"\xff/a.tf"),
        (b"x\n/../a.tf", r"x\n/../a.tf"),
    ];
    for (target, shown) in targets {
        let (files, report) = outcome(&[file("d/a.tf", "1"), link_to("d/l.tf", target)]).unwrap();
        assert_eq!(files, ["d/a.tf"]);
        assert_eq!(skipped(&report), [("d/l.tf", shown, SkipReason::Unnameable)]);
    }
}

#[test]
fn a_long_target_with_a_newline_is_read_from_a_pax_header_too() {
    let target = format!("{}a.tf\n", "./".repeat(60));
    let (files, report) = outcome(&[file("a.tf", "1"), link("l", &target)]).unwrap();
    assert_eq!((files, report.skipped_links.total), (vec!["a.tf".to_owned()], 1));
    assert_eq!(report.skipped_links.first[0].why, SkipReason::Unnameable);
    let long = format!("{}\n{}", "a".repeat(80), "b".repeat(80));
    let (_, report) = outcome(&[file("a.tf", "1"), file(&long, "2")]).unwrap();
    assert_eq!(report.skipped_files.total, 1);
}

#[test]
fn links_to_what_is_left_out_are_left_out() {
    let items = [file("main.tf", "1"), odd(b"odd\n", file("", "2")), odd(b"caf\xe9/a.md", file("", "3"))];
    let with = |path: &str, target: &[u8]| outcome(&[&items[..], &[link_to(path, target)]].concat());
    for (path, target) in
        [("l", &b"odd\n"[..]), ("l", b"caf\xe9"), ("l", b"caf\xe9/a.md"), ("l.tf", b"odd\n")]
    {
        let (files, report) = with(path, target).unwrap();
        assert_eq!(files, ["main.tf"]);
        let shown = target.escape_ascii().to_string();
        assert_eq!(skipped(&report), [(path, &*shown, SkipReason::PointsToSkipped)]);
        assert_eq!(report.skipped_files.total, 2);
    }
    // Through an odd folder and back: what is there in the end counts.
    assert_eq!(with("l.tf", b"caf\xe9/../main.tf").unwrap().0, ["l.tf", "main.tf"]);
}

#[test]
fn odd_names_keep_to_the_rules_for_all_names() {
    let twice = [odd(b"a\n", file("", "1")), odd(b"a\n", file("", "2"))];
    assert!(outcome(&twice).unwrap_err().contains(r"`a\n` twice"));
    let both = [odd(b"a\n", file("", "1")), odd(b"a\n/b", file("", "2"))];
    assert!(outcome(&both).unwrap_err().contains(r"`a\n` both as a file and as a folder"));
    let error = outcome(&[odd(b"a\xff/../b", file("", ""))]).unwrap_err();
    assert!(error.contains(r"`top/a\xff/../b`, which contains `..`"), "{error}");
    let device = Item { path: b"a\n".into(), kind: Kind::Special { tar: b'6', zip: 0o010_644 } };
    for pack in PACKS {
        let error =
            run(&pack.pack(&in_top(std::slice::from_ref(&device))), ArchiveFormat::Zip, &Limits::default())
                .unwrap_err();
        assert!(error.to_string().contains(r"`top/a\n`, a "), "{error}");
    }
}

#[test]
fn submodules_are_empty_folders() {
    let items = [
        file("main.tf", "1"),
        folder("vendor/x/"),
        folder("a-b/"),
        folder("docs/"),
        file("docs/a.md", "2"),
        link("into", "vendor/x/main.tf"),
        link("whole", "vendor/x"),
        link("dangling", "docs/b.md"),
    ];
    // With the list of submodules, and where .gitattributes keeps that out of archives.
    for list in [Some(file(".gitmodules", "[submodule]\n")), None] {
        let items: Vec<Item> = items.iter().cloned().chain(list.clone()).collect();
        let (files, report) = outcome(&items).unwrap();
        assert_eq!(files.len(), 2 + usize::from(list.is_some()));
        assert_eq!(report.submodules, listed(&["a-b", "vendor/x"]));
        let submodule = SkipReason::PointsToSubmodule;
        let expected = [
            ("dangling", "docs/b.md", SkipReason::Dangles),
            ("into", "vendor/x/main.tf", submodule),
            ("whole", "vendor/x", submodule),
        ];
        assert_eq!(skipped(&report), expected);
    }
}

#[test]
fn lfs_pointers_are_small_files_with_the_first_line_of_one() {
    let line = "version https://git-lfs.github.com/spec/v1";
    let pointer = format!("{line}\noid sha256:{:064}\nsize 12345\n", 1);
    let padded = |len: usize| format!("{line}{}", "\n".repeat(len - line.len()));
    let items = [
        file("b.zip", &pointer),
        script("a.sh", &pointer),
        file("c", line),
        file("d", padded(1023)),
        file("not-small", padded(1024)),
        file("not-first", format!("\n{pointer}")),
        file("cut", &line[..line.len() - 1]),
        file("empty", ""),
        odd(b"left-out\n", file("", &pointer)),
        link("link.zip", "b.zip"),
    ];
    let (files, report) = outcome(&items).unwrap();
    assert_eq!(files.len(), 9, "they are stored as they come");
    assert_eq!(report.lfs_pointers, listed(&["a.sh", "b.zip", "c", "d", "link.zip"]));
}

#[test]
fn pointers_of_early_versions_of_git_lfs_are_recognised() {
    let pointer = |version: &str| format!("version {version}\noid sha256:{:064}\nsize 12345\n", 1);
    let items = [
        file("hawser", pointer("https://hawser.github.com/spec/v1")),
        file("media", pointer("http://git-media.io/v/2")),
        file("none", pointer("https://git-lfs.example.com/spec/v1")),
        file("short", "version http"),
    ];
    let (files, report) = outcome(&items).unwrap();
    assert_eq!((files.len(), report.lfs_pointers), (4, listed(&["hawser", "media"])));
}

#[test]
fn a_drive_letter_leaves_out_one_file_unless_that_is_configuration() {
    let items = [
        file("main.tf", "1"),
        file("a:b.txt", "2"),
        file("c:/d.txt", "3"),
        file("e/f:g.txt", "4"),
        file("notes:h.txt", "5"),
        link("i", "a:b.txt"),
        link("j:k", "main.tf"),
    ];
    let (files, report) = outcome(&items).unwrap();
    assert_eq!(files, ["e/f:g.txt", "main.tf", "notes:h.txt"]);
    assert_eq!(report.skipped_files, listed(&["a:b.txt", "c:/d.txt", "j:k"]));
    assert_eq!(skipped(&report), [("i", "a:b.txt", SkipReason::PointsToSkipped)]);
    for configuration in ["a:main.tf", "C:/main.tofu"] {
        let error = outcome(&[file("main.tf", "1"), file(configuration, "2")]).unwrap_err();
        assert!(error.contains("drive letter"), "{error}");
    }
}

#[test]
fn names_that_are_one_on_some_systems_are_kept_apart() {
    let names = [
        "Main.tf",
        "a ",
        "a.",
        "aux.tf",
        "caf\u{e9}.tf",
        "cafe\u{301}.tf",
        "con",
        "main.tf",
        "x/A/f",
        "x/a/f",
    ];
    let items: Vec<Item> = names.iter().map(|name| file(name, *name)).collect();
    let (mut files, report) = outcome(&items).unwrap();
    let mut expected = names.map(str::to_owned);
    files.sort();
    expected.sort();
    assert_eq!((files, report), (expected.to_vec(), Report::default()));
    // Nor is one taken for the other where a link names it.
    let links =
        [file("Main.tf", "1"), file("caf\u{e9}", "2"), link("l1", "main.tf"), link("l2", "cafe\u{301}")];
    let (files, report) = outcome(&links).unwrap();
    assert_eq!(files, ["Main.tf", "caf\u{e9}"]);
    let dangles = |path, target| (path, target, SkipReason::Dangles);
    assert_eq!(skipped(&report), [dangles("l1", "main.tf"), dangles("l2", r"cafe\u{301}")]);
}

#[test]
fn links_to_devices_and_to_themselves_reach_nothing() {
    for target in ["/dev/stdin", "/dev/zero", "/proc/self/environ", "../../dev/null", "d/../../../dev/null"] {
        let error = outcome(&[file("main.tf", "1"), folder("d/"), link("l", target)]).unwrap_err();
        assert!(error.contains("symbolic link `l` points to"), "{target}: {error}");
    }
    let items = [file("main.tf", "1"), link("l", "l"), link("a", "b"), link("b", "a"), link("d", "d/e")];
    let (files, report) = outcome(&items).unwrap();
    assert_eq!(files, ["main.tf"]);
    let why: Vec<_> = skipped(&report).into_iter().map(|(path, _, why)| (path, why)).collect();
    assert_eq!(why, ["a", "b", "d", "l"].map(|path| (path, SkipReason::Loops)));
}
