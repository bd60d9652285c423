//! Names that git allows and a module cannot have: not UTF-8, with control characters, with a backslash, with a drive letter, too
//! long.

/// Extensions of the files that Terraform and OpenTofu read as configuration, in lower case only.
const CONFIGURATION: [&[u8]; 4] = [b".tf", b".tf.json", b".tofu", b".tofu.json"];

/// The longest name of a file or folder, in bytes: the limit of most file systems.
const NAME_BYTES: usize = 255;

/// Why no file of a module can have this path, or `None`: installers and file systems differ in what they make of it, and
/// the content digest (a line for each file) cannot contain a newline.
pub(super) fn unusable(path: &[u8]) -> Option<&'static str> {
    match path {
        [drive, b':', ..] if drive.is_ascii_alphabetic() => {
            Some("starts with a drive letter, which makes it absolute on some systems")
        }
        path => unnameable(path),
    }
}

/// [`unusable`] for a part of a path, which may start with `a:`.
pub(super) fn unnameable(path: &[u8]) -> Option<&'static str> {
    let is_long = path.split(|byte| *byte == b'/').any(|name| name.len() > NAME_BYTES);
    unreadable(path).or(is_long.then_some("has a name of more than 255 bytes in its path"))
}

/// What is wrong with the characters of a path, if anything.
pub(super) fn unreadable(path: &[u8]) -> Option<&'static str> {
    match str::from_utf8(path) {
        Err(_) => Some("is not UTF-8"),
        Ok(text) if text.chars().any(char::is_control) => Some("has a control character in its path"),
        Ok(text) if text.contains('\\') => Some("has a backslash, which is a path separator on some systems"),
        Ok(_) => None,
    }
}

/// Whether Terraform or OpenTofu would read a file at this path as configuration. Without it, the module would be another one.
pub(super) fn is_configuration(path: &[u8]) -> bool {
    CONFIGURATION.iter().any(|ending| path.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_module_cannot_have() {
        let odd: [&[u8]; 14] = [
            b"caf\xe9.txt",
            b"d\xff/a.txt",
            b"Icon\r",
            b"a\nb",
            b"a\0b",
            b"\x1b[31m",
            b"a\x7f",
            "a\u{85}".as_bytes(),
            b"old\\a.txt",
            b"..\\a",
            b"\\",
            b"\xed\xa0\x80",
            b"a:b",
            b"C:/main.tf",
        ];
        for path in odd {
            assert!(unusable(path).is_some(), "{}", path.escape_ascii());
        }
        for (name, len, is_usable) in
            [("n", 255, true), ("n", 256, false), ("文", 85, true), ("文", 86, false)]
        {
            let name = name.repeat(len);
            for path in [name.clone(), format!("d/{name}"), format!("{name}/a"), format!("a/{name}/a")] {
                assert_eq!(unusable(path.as_bytes()).is_none(), is_usable, "{path}");
                assert_eq!(unreadable(path.as_bytes()), None, "{path}");
            }
        }
        for path in [
            "",
            "main.tf",
            "größe.tf",
            "a b",
            "a\u{202e}b",
            "a\u{200b}",
            "日本語",
            "...",
            "~",
            "ab:c",
            "d/a:b",
        ] {
            assert_eq!(unusable(path.as_bytes()), None, "{path:?}");
        }
    }

    #[test]
    fn what_terraform_reads() {
        for path in ["a.tf", ".tf", "d/a.tf.json", "a.tofu", "a.tofu.json", "a\n.tf"] {
            assert!(is_configuration(path.as_bytes()), "{path:?}");
        }
        for path in
            ["a.TF", "a.tf\n", "a.tf ", "a.tfvars", "a.tf.bak", "a.json", "tf", "a.tf/b", "a.tftest.hcl"]
        {
            assert!(!is_configuration(path.as_bytes()), "{path:?}");
        }
    }
}
