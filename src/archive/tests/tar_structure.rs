//! Tar archives with odd headers and endings, and gzip files of several parts: kept exactly, or refused.

use super::*;

/// `path=content` of each file that is published.
fn kept(raw: &[u8]) -> Vec<String> {
    let (_, bytes) = run(raw, ArchiveFormat::Tar, &Limits::default()).unwrap();
    let files = unpack(&bytes, ArchiveFormat::Tar).into_iter();
    files.map(|(path, file)| format!("{path}={}", String::from_utf8(file.data).unwrap())).collect()
}

fn refused(what: &str, raw: &[u8]) -> ArchiveError {
    let outcome =
        run(raw, ArchiveFormat::Tar, &Limits::default()).map(|(_, bytes)| unpack(&bytes, ArchiveFormat::Tar));
    outcome.expect_err(what)
}

fn member(path: &str, data: &str) -> Vec<u8> {
    raw_tar(b'0', path.as_bytes(), b"", 0o644, data.as_bytes())
}

/// A tar of these members, with its end, compressed.
fn tar_gz(members: &[Vec<u8>]) -> Vec<u8> {
    gzip(&[&members.concat()[..], &[0; 1024]].concat())
}

/// The member with another text in its size field.
fn sized(mut member: Vec<u8>, size: [u8; 12]) -> Vec<u8> {
    member[124..136].copy_from_slice(&size);
    let mut header = tar::Header::from_byte_slice(&member[..512]).clone();
    header.set_cksum();
    member[..512].copy_from_slice(header.as_bytes());
    member
}

#[test]
fn gzip_parts_are_one_stream() {
    let tar = tar_of(&[file("t/a", "1"), file("t/b", "22")]);
    let (front, back) = tar.split_at(700);
    let parts = [gzip(b""), gzip(front), gzip(b""), gzip(back), gzip(b"")];
    assert_eq!(kept(&parts.concat()), ["a=1", "b=22"]);
    assert_eq!(kept(&parts[1..4].concat()), ["a=1", "b=22"]);
    for (what, raw) in [
        ("a second archive in a part of its own", [gzip(&tar), gzip(&tar_of(&[file("t/c", "")]))].concat()),
        ("zeros behind", [gzip(&tar), vec![0; 512]].concat()),
        ("half a header behind", [&gzip(&tar)[..], &[0x1f, 0x8b, 8]].concat()),
        ("only the first part", gzip(front)),
        ("the parts in the wrong order", [gzip(back), gzip(front)].concat()),
    ] {
        let error = refused(what, &raw);
        assert!(matches!(error, ArchiveError::Corrupt { .. }), "{what}: {error:?}");
    }
}

#[test]
fn gzip_headers_may_say_more_but_not_without_end() {
    let tar = tar_of(&[file("t/a", "1")]);
    let with = |len: usize| {
        let builder = flate2::GzBuilder::new().filename(vec![b'n'; len]).comment("c").extra([1, 2, 0, 0]);
        let mut gz = builder.write(Vec::new(), Compression::default());
        gz.write_all(&tar).unwrap();
        gz.finish().unwrap()
    };
    assert_eq!(kept(&with(100)), ["a=1"]);
    assert!(matches!(refused("a name of a mebibyte", &with(1 << 20)), ArchiveError::Corrupt { .. }));
}

#[test]
fn each_checksum_of_gzip_counts() {
    let raw = gzip(&tar_of(&[file("t/a", "1")]));
    for at in raw.len() - 8..raw.len() {
        let mut damaged = raw.clone();
        damaged[at] ^= 1;
        let error = refused("damaged", &damaged);
        assert!(matches!(error, ArchiveError::Corrupt { .. }), "byte {at}: {error:?}");
    }
}

#[test]
fn sizes_that_are_none_are_refused() {
    for kind in *b"05xgLK2" {
        for size in [
            *b"77777777777\0",
            *b"-0000000001\0",
            *b"0000000000x\0",
            *b"            ",
            [0; 12],
            [0xff; 12],
            // Binary: the largest that there is, one that wraps around when it is padded, one that is negative.
            [0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            [0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe, 0x01],
            [0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        ] {
            let odd = sized(raw_tar(kind, b"t/o", b"a", 0o644, b""), size);
            let what = format!("{} of size {size:?}", char::from(kind));
            let error = refused(&what, &tar_gz(&[odd, member("t/a", "1")]));
            assert!(matches!(error, ArchiveError::Corrupt { .. }), "{what}: {error:?}");
        }
    }
    let binary = sized(member("t/a", "1"), [0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    assert_eq!(kept(&tar_gz(&[binary])), ["a=1"]);
}

#[test]
fn headers_in_front_override_or_are_refused() {
    let long = format!("t/{}", "n".repeat(250));
    let with = |records: &[(&str, &[u8])], kind, path: &[u8]| {
        tar_gz(&[pax(b'x', records), raw_tar(kind, path, b"cut", 0o644, b""), member("t/a", "1")])
    };
    assert_eq!(
        kept(&with(&[("path", long.as_bytes())], b'0', b"t/cut")),
        ["a=1", &format!("{}=", &long[2..])]
    );
    assert_eq!(kept(&with(&[("path", b"t/b"), ("size", b"0")], b'0', b"/etc/passwd")), ["a=1", "b="]);
    assert_eq!(kept(&with(&[("linkpath", b"a")], b'2', b"t/l")), ["a=1", "l=1"]);
    assert_eq!(
        kept(&with(&[("mtime", b"x"), ("uid", b"-1"), ("acme.x", b"\xff")], b'0', b"t/b")),
        ["a=1", "b="]
    );
    let out = [
        ("a path that climbs", with(&[("path", b"t/../../x")], b'0', b"t/b")),
        ("an absolute path", with(&[("path", b"/t/b")], b'0', b"t/b")),
        ("no path", with(&[("path", b"")], b'0', b"t/b")),
        ("configuration with NUL in its path", with(&[("path", b"t/b\0c.tf")], b'0', b"t/b")),
        ("a target that climbs", with(&[("linkpath", b"../../x")], b'2', b"t/l")),
        ("another size", with(&[("size", b"1")], b'0', b"t/b")),
        ("one key twice", with(&[("path", b"t/b"), ("path", b"t/c")], b'0', b"t/b")),
        (
            "GNU and pax",
            tar_gz(&[
                raw_tar(b'L', b"././@LongLink", b"", 0, b"t/b\0"),
                pax(b'x', &[("path", b"t/c")]),
                member("t/a", "1"),
            ]),
        ),
        (
            "two of GNU's",
            tar_gz(&[
                raw_tar(b'L', b"././@LongLink", b"", 0, b"t/b\0"),
                raw_tar(b'L', b"././@LongLink", b"", 0, b"t/c\0"),
                member("t/a", "1"),
            ]),
        ),
        (
            "GNU's with NUL",
            tar_gz(&[raw_tar(b'L', b"././@LongLink", b"", 0, b"t/b\0c.tf\0"), member("t/a", "1")]),
        ),
    ];
    for (what, raw) in out {
        refused(what, &raw);
    }
    let cut = with(&[("path", b"t/main.tf\0.md")], b'0', b"t/b");
    assert_eq!(kept(&cut), ["a=1"], "no name is cut at a NUL: it is left out");
}

#[test]
fn ustar_prefixes_are_part_of_the_name_and_gnu_ones_are_not() {
    let with_prefix = |gnu: bool| {
        let mut header = if gnu { tar::Header::new_gnu() } else { tar::Header::new_ustar() };
        header.as_old_mut().name[..3].copy_from_slice(b"t/f");
        header.set_size(0);
        header.set_mode(0o644);
        let mut bytes = header.as_bytes().to_vec();
        bytes[345..350].copy_from_slice(b"t/d/e");
        sized(bytes, *b"00000000000\0")
    };
    assert_eq!(kept(&tar_gz(&[with_prefix(false)])), ["d/e/t/f="]);
    assert_eq!(kept(&tar_gz(&[with_prefix(true)])), ["f="]);
}

#[test]
fn messages_of_the_decoders_are_escaped_too() {
    let mut odd = sized(member("t/\x1b[31mred", "1"), *b"0000000000x\0");
    let message = refused("an odd size", &tar_gz(&[odd.clone()])).to_string();
    assert!(message.contains("red") && !message.chars().any(char::is_control), "{message:?}");
    odd[100..108].copy_from_slice(b"mode\n\x07x\0");
    let message = refused("an odd mode", &tar_gz(&[sized(odd, *b"00000000001\0")])).to_string();
    assert!(!message.chars().any(char::is_control), "{message:?}");
}
