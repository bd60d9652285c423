//! What holds for every archive that was damaged, or made by an attacker: it is refused, or what comes out is
//! a plain tree. Checksums are mended after the damage, so that it gets past them.

use proptest::prelude::*;
use proptest::sample::Index;

use super::properties::tree;
use super::*;

/// An item whose name, and whose target if it is a link, may be of any shape.
fn odd_item() -> impl Strategy<Value = Item> {
    let plain = prop::sample::select(vec!["a", "b", "c"]);
    let odd = prop::sample::select(vec!["..", ".", "", "a\\b", "C:", "\0", "\u{7f}", "é", "..."]);
    let part = prop_oneof![6 => plain, 1 => odd];
    let path =
        move || prop::collection::vec(part.clone(), 1..4).prop_map(|parts| parts.join("/").into_bytes());
    let data = prop::collection::vec(any::<u8>(), 0..20);
    let kind = prop_oneof![
        6 => (data, any::<bool>()).prop_map(|(data, executable)| Kind::File { data, executable }),
        3 => path().prop_map(Kind::Link),
        1 => Just(Kind::Folder),
        1 => Just(Kind::Special { tar: b'6', zip: 0o010_644 }),
    ];
    (path(), kind).prop_map(|(path, kind)| Item { path, kind })
}

/// One change of some bytes.
#[derive(Clone, Debug)]
enum Edit {
    Flip(Index, u8),
    Set(Index, u8),
    /// A number at its limits, in one of the widths that headers have.
    Number(Index, u64, usize),
    Text(Index, &'static [u8]),
    Cut(Index, usize),
    /// A piece from here, this long, to there.
    Copy(Index, usize, Index),
}

/// What is worth writing over a name, a kind or a size.
const TEXTS: [&[u8]; 12] =
    [b"../", b"/", b"..", b"\\", b"\0", b"a/a", b"0", b"2", b"L", b"x", b"PK\x01\x02", b"77777777777"];

/// Lengths of pieces: of headers, of blocks, and of nothing in particular.
fn length() -> impl Strategy<Value = usize> {
    prop_oneof![Just(512), Just(1024), Just(30), Just(46), 1..80_usize]
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = any::<Index>();
    let numbers =
        prop::sample::select(vec![0, 1, 0xff, 0xffff, 0x7fff_ffff, 0xffff_fffe, 0xffff_ffff, u64::MAX]);
    prop_oneof![
        (at.clone(), 0..8_u8).prop_map(|(at, bit)| Edit::Flip(at, bit)),
        (at.clone(), any::<u8>()).prop_map(|(at, byte)| Edit::Set(at, byte)),
        (at.clone(), numbers, prop::sample::select(vec![1, 2, 4, 8]))
            .prop_map(|(at, n, width)| Edit::Number(at, n, width)),
        (at.clone(), prop::sample::select(&TEXTS[..])).prop_map(|(at, text)| Edit::Text(at, text)),
        (at.clone(), length()).prop_map(|(at, len)| Edit::Cut(at, len)),
        (at.clone(), length(), at).prop_map(|(from, len, to)| Edit::Copy(from, len, to)),
    ]
}

/// The bytes after all edits.
fn edited(mut bytes: Vec<u8>, edits: &[Edit], grain: usize) -> Vec<u8> {
    for edit in edits {
        apply(&mut bytes, edit, grain);
    }
    bytes
}

/// Applies one edit. Positions are multiples of `grain` where pieces are moved.
fn apply(bytes: &mut Vec<u8>, edit: &Edit, grain: usize) {
    if bytes.is_empty() {
        return;
    }
    let end = |from: usize, len: usize| (from + len).min(bytes.len());
    match edit {
        Edit::Flip(at, bit) => *at.get_mut(bytes) ^= 1 << bit,
        Edit::Set(at, byte) => *at.get_mut(bytes) = *byte,
        Edit::Number(at, number, width) => {
            let at = at.index(bytes.len());
            let range = at..end(at, *width);
            let len = range.len();
            bytes[range].copy_from_slice(&number.to_le_bytes()[..len]);
        }
        Edit::Text(at, text) => {
            let at = at.index(bytes.len());
            let range = at..end(at, text.len());
            let len = range.len();
            bytes[range].copy_from_slice(&text[..len]);
        }
        Edit::Cut(at, len) => {
            let at = at.index(bytes.len()) / grain * grain;
            bytes.drain(at..end(at, len.next_multiple_of(grain)));
        }
        Edit::Copy(from, len, to) => {
            let from = from.index(bytes.len()) / grain * grain;
            let piece = bytes[from..end(from, len.next_multiple_of(grain))].to_vec();
            let to = to.index(bytes.len()) / grain * grain;
            bytes.splice(to..to, piece);
        }
    }
}

/// Writes the right checksum into whatever looks like a header.
fn mended(mut tar: Vec<u8>) -> Vec<u8> {
    for block in tar.chunks_exact_mut(512).filter(|block| block[257..262] == *b"ustar") {
        let mut header = tar::Header::from_byte_slice(block).clone();
        header.set_cksum();
        block.copy_from_slice(header.as_bytes());
    }
    tar
}

/// Refused, or a plain tree: never a panic, and no path that leaves it.
fn assert_harmless(raw: &[u8], format: ArchiveFormat) -> Result<(), TestCaseError> {
    let limits = Limits { unpacked_bytes: 16 << 20, ..Limits::default() };
    let Ok((normalised, bytes)) = run(raw, format, &limits) else { return Ok(()) };
    let files = unpack(&bytes, format);
    prop_assert_eq!(files.len() as u64, normalised.files);
    prop_assert_eq!(normalised.digest.to_string(), h1(&files));
    for (path, file) in &files {
        prop_assert!(path.split('/').all(|part| !["", ".", ".."].contains(&part)), "{:?}", path);
        prop_assert!(!path.contains('\\') && !path.chars().any(char::is_control), "{:?}", path);
        prop_assert!([0o644, 0o755].contains(&file.mode), "{:o}", file.mode);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn odd_names_are_refused_or_harmless(items in prop::collection::vec(odd_item(), 1..5)) {
        for pack in PACKS {
            assert_harmless(&pack.pack(&in_top(&items)), ArchiveFormat::Zip)?;
        }
    }

    #[test]
    fn a_damaged_zip_is_refused_or_harmless(items in tree(), edits in prop::collection::vec(edit(), 1..6)) {
        assert_harmless(&edited(zip_of(&in_top(&items)), &edits, 1), ArchiveFormat::Tar)?;
    }

    #[test]
    fn a_damaged_tar_is_refused_or_harmless(
        items in tree(),
        edits in prop::collection::vec(edit(), 1..6),
        grain in prop_oneof![4 => Just(512_usize), 1 => Just(1)],
    ) {
        let tar = mended(edited(tar_of(&in_top(&items)), &edits, grain));
        assert_harmless(&gzip(&tar), ArchiveFormat::Zip)?;
    }

    #[test]
    fn a_damaged_gzip_is_refused_or_harmless(items in tree(), edits in prop::collection::vec(edit(), 1..3)) {
        assert_harmless(&edited(Pack::TarGz.pack(&in_top(&items)), &edits, 1), ArchiveFormat::Zip)?;
    }

    #[test]
    fn what_starts_like_an_archive_is_refused_or_harmless(
        start in prop::sample::select(vec![&b"PK\x03\x04"[..], b"PK\x05\x06", b"\x1f\x8b\x08", b""]),
        rest in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        assert_harmless(&[start, &rest].concat(), ArchiveFormat::Zip)?;
    }
}
