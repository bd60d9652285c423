//! Archive formats that Terraform and OpenTofu can unpack.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a module is packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ArchiveFormat {
    /// A zip archive, `.zip`.
    #[default]
    Zip,
    /// A gzip-compressed tar archive, `.tar.gz`.
    Tar,
}

impl ArchiveFormat {
    /// The file extension by which Terraform recognises the format, without its leading dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Zip => "zip",
            Self::Tar => "tar.gz",
        }
    }

    /// Its name in manifests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Zip => "zip",
            Self::Tar => "tar",
        }
    }

    /// The format of a file name or key, by its extension.
    pub fn of_file_name(file_name: &str) -> Option<Self> {
        let formats: [(Self, &[&str]); 2] = [(Self::Zip, &[".zip"]), (Self::Tar, TAR)];
        formats.into_iter().find(|(_, endings)| ends_in(file_name, endings)).map(|(format, _)| format)
    }

    /// Whether a file name or key has the extension of this format.
    pub fn is_extension_of(self, file_name: &str) -> bool {
        ends_in(file_name, &[format!(".{}", self.extension()).as_str()])
    }

    /// Whether a file name has the extension of another format, as which Terraform or OpenTofu would unpack the file.
    pub fn conflicts_with(self, file_name: &str) -> bool {
        let ends_in = |endings: &[&str]| ends_in(file_name, endings);
        match self {
            Self::Zip => ends_in(TAR) || ends_in(&[".tar"]) || ends_in(OTHERS),
            Self::Tar => !ends_in(TAR) && (ends_in(&[".zip"]) || ends_in(OTHERS)),
        }
    }
}

fn ends_in(file_name: &str, endings: &[&str]) -> bool {
    let file_name = file_name.to_ascii_lowercase();
    endings.iter().any(|ending| file_name.ends_with(ending))
}

/// Extensions of gzip-compressed tar archives.
const TAR: &[&str] = &[".tar.gz", ".tgz"];
/// Extensions of archives and compressed files of other formats. No client unpacks a file because it ends in `.tar`.
const OTHERS: &[&str] = &[".gz", ".bz2", ".tar.tbz2", ".xz", ".txz"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_of_a_name_is_that_of_its_extension() {
        use ArchiveFormat::{Tar, Zip};
        for (name, format) in [
            ("a/net.zip", Some(Zip)),
            ("out/Net.TGZ", Some(Tar)),
            ("net.Tar.gz", Some(Tar)),
            ("net.gz", None),
            ("net.tar", None),
            ("zip", None),
        ] {
            assert_eq!(ArchiveFormat::of_file_name(name), format, "{name}");
        }
    }

    #[test]
    fn a_name_that_ends_as_another_format_conflicts() {
        use ArchiveFormat::{Tar, Zip};
        for (name, formats) in [
            ("net.zip", &[Tar][..]),
            ("NET.Zip", &[Tar]),
            ("net.tar.gz", &[Zip]),
            ("NET.TGZ", &[Zip]),
            ("net.tar", &[Zip]),
            ("net.gz", &[Zip, Tar]),
            ("net.zip.gz", &[Zip, Tar]),
            ("net.bz2", &[Zip, Tar]),
            ("net.tar.bz2", &[Zip, Tar]),
            ("net.tar.tbz2", &[Zip, Tar]),
            ("net.xz", &[Zip, Tar]),
            ("net.Tar.XZ", &[Zip, Tar]),
            ("net.txz", &[Zip, Tar]),
            ("net", &[]),
            ("netgz", &[]),
            ("net.bin", &[]),
            ("net.zip.1", &[]),
            ("net-1.0.0", &[]),
        ] {
            for format in [Zip, Tar] {
                assert_eq!(format.conflicts_with(name), formats.contains(&format), "{name} {format:?}");
            }
        }
    }
}
