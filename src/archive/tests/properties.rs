//! What holds for every tree. The oracle for links is the kernel of the machine that runs the tests.

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::archive::SkipReason;

fn component() -> impl Strategy<Value = String> {
    prop_oneof![8 => "[abc]", 2 => "[a-c.é-]{1,3}x", 1 => "[ab]{90,120}"]
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(component(), 1..4).prop_map(|components| components.join("/"))
}

fn data() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => prop::collection::vec(any::<u8>(), 0..40),
        1 => (any::<u8>(), 0..200_000_usize).prop_map(|(byte, len)| vec![byte; len]),
    ]
}

fn target() -> impl Strategy<Value = String> {
    let part = prop_oneof![6 => "[abc]", 3 => Just("..".to_owned()), 1 => Just(".".to_owned())];
    prop::collection::vec(part, 1..4).prop_map(|parts| parts.join("/"))
}

fn regular() -> impl Strategy<Value = Item> {
    (path(), data(), any::<bool>()).prop_map(|(path, data, executable)| Item {
        path: path.into(),
        kind: Kind::File { data, executable },
    })
}

fn symbolic() -> impl Strategy<Value = Item> {
    (path(), target()).prop_map(|(path, target)| link(&path, &target))
}

/// Drops what would be a duplicate, or both file and folder.
fn consistent(items: Vec<Item>) -> Vec<Item> {
    let mut taken: BTreeSet<Vec<u8>> = BTreeSet::new();
    let mut folders: BTreeSet<Vec<u8>> = BTreeSet::new();
    let mut kept = Vec::new();
    for item in items {
        let slashes = item.path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        let parents: Vec<Vec<u8>> = slashes.map(|(at, _)| item.path[..at].to_vec()).collect();
        if folders.contains(&item.path)
            || taken.contains(&item.path)
            || parents.iter().any(|parent| taken.contains(parent))
        {
            continue;
        }
        folders.extend(parents);
        taken.insert(item.path.clone());
        kept.push(item);
    }
    kept
}

fn files() -> impl Strategy<Value = Vec<Item>> {
    prop::collection::vec(regular(), 1..20).prop_map(consistent)
}

fn linked() -> impl Strategy<Value = Vec<Item>> {
    let items = (prop::collection::vec(regular(), 1..8), prop::collection::vec(symbolic(), 1..8));
    items.prop_map(|(files, links)| [files, links].concat()).prop_shuffle().prop_map(consistent)
}

fn empty_folder() -> impl Strategy<Value = Item> {
    path().prop_map(|path| folder(&(path + "/")))
}

/// All that a repository can hold.
pub(super) fn tree() -> impl Strategy<Value = Vec<Item>> {
    let item = prop_oneof![5 => regular().boxed(), 3 => symbolic().boxed(), 1 => empty_folder().boxed()];
    prop::collection::vec(item, 1..16).prop_map(consistent)
}

fn expected(items: &[Item]) -> BTreeMap<String, Published> {
    let mut files = BTreeMap::new();
    for item in items {
        let Kind::File { data, executable } = &item.kind else { continue };
        let mode = if *executable { 0o755 } else { 0o644 };
        files.insert(String::from_utf8(item.path.clone()).unwrap(), Published { data: data.clone(), mode });
    }
    files
}

/// All files that the kernel finds below `folder`, following links, but not those in `skipped`.
fn walk(root: &Path, folder: &str, skipped: &BTreeSet<&str>, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(root.join(folder)).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
        if skipped.contains(path.as_str()) {
            continue;
        }
        if fs::metadata(root.join(&path)).unwrap().is_dir() {
            walk(root, &path, skipped, found);
        } else {
            found.insert(path);
        }
    }
}

fn materialise(items: &[Item], root: &Path) {
    for item in items {
        let path = root.join(str::from_utf8(&item.path).unwrap());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match &item.kind {
            Kind::File { data, .. } => fs::write(path, data).unwrap(),
            Kind::Link(target) => symlink(str::from_utf8(target).unwrap(), path).unwrap(),
            _ => unreachable!("only files and links are made"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn packing_and_order_do_not_matter(items in files()) {
        let mut reversed = items.clone();
        reversed.reverse();
        for format in FORMATS {
            let mut outputs = Vec::new();
            for (pack, items) in [(Pack::Zip, &items), (Pack::TarGz, &items), (Pack::Zip, &reversed), (Pack::TarGz, &reversed)] {
                let (normalised, bytes) = run(&pack.pack(&in_top(items)), format, &Limits::default()).unwrap();
                prop_assert_eq!(normalised.digest.to_string(), h1(&expected(items)));
                outputs.push(bytes);
            }
            prop_assert_eq!(unpack(&outputs[0], format), expected(&items));
            outputs.dedup();
            prop_assert_eq!(outputs.len(), 1);
        }
    }

    #[test]
    fn zip_and_tar_of_a_tree_are_one_module(items in tree(), shuffled in any::<prop::sample::Index>()) {
        let mut other = items.clone();
        other.rotate_left(shuffled.index(items.len()));
        for format in FORMATS {
            let outcome = |pack: Pack, items: &[Item]| match run(&pack.pack(&in_top(items)), format, &Limits::default()) {
                Ok((normalised, bytes)) => Ok((normalised.digest, normalised.report, bytes)),
                Err(error) => Err(error.to_string()),
            };
            let first = outcome(Pack::Zip, &items);
            prop_assert_eq!(&first, &outcome(Pack::Zip, &items), "again");
            prop_assert_eq!(&first, &outcome(Pack::TarGz, &items), "as a tar");
            prop_assert_eq!(&first, &outcome(Pack::TarGz, &other), "in another order");
        }
    }

    #[test]
    fn normalising_again_changes_nothing(items in linked()) {
        let Ok((first, bytes)) = run(&zip_of(&in_top(&items)), ArchiveFormat::Zip, &Limits::default()) else { return Ok(()) };
        let again: Vec<Item> = unpack(&bytes, ArchiveFormat::Zip)
            .into_iter()
            .map(|(path, Published { data, mode })| Item {
                path: path.into(),
                kind: Kind::File { data, executable: mode == 0o755 },
            })
            .collect();
        for pack in PACKS {
            let (second, same) = run(&pack.pack(&in_top(&again)), ArchiveFormat::Zip, &Limits::default()).unwrap();
            prop_assert_eq!(&same, &bytes);
            prop_assert_eq!(second.digest, first.digest);
        }
    }

    #[test]
    fn links_lead_where_the_kernel_leads(items in linked()) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        materialise(&items, &root);
        let (normalised, bytes) = match run(&zip_of(&in_top(&items)), ArchiveFormat::Tar, &Limits::default()) {
            Ok(output) => output,
            Err(ArchiveError::LinkLeavesTree { path, .. }) => {
                // No link can name `root`, so none can come back.
                let there = fs::canonicalize(root.join(path));
                prop_assert!(there.is_err() || !there.unwrap().starts_with(fs::canonicalize(&root)?));
                return Ok(());
            }
            Err(ArchiveError::Empty) => return Ok(()),
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        };
        let skipped = &normalised.report.skipped_links;
        // Longer names are cut where they are reported.
        prop_assume!(skipped.total <= 20 && skipped.first.iter().all(|link| !link.path.ends_with('…')));
        for link in &skipped.first {
            let there = fs::metadata(root.join(&link.path));
            prop_assert_eq!(there.is_ok(), link.why == SkipReason::PointsToAncestor, "{:?}", link);
        }
        let skipped = skipped.first.iter().map(|link| link.path.as_str()).collect();
        let mut found = BTreeSet::new();
        walk(&root, "", &skipped, &mut found);
        let files = unpack(&bytes, ArchiveFormat::Tar);
        prop_assert_eq!(files.keys().cloned().collect::<BTreeSet<_>>(), found);
        for (path, file) in files {
            prop_assert_eq!(fs::read(root.join(path)).unwrap(), file.data);
        }
    }
}
