//! Tar archives: gzip files as they come, and everything else as the tar that is in one, with the checksums of its
//! headers mended and its end in place. No mutation would ever get past those by itself.
#![no_main]

use std::io::Write as _;

use flate2::write::GzEncoder;

const BLOCK: usize = 512;

libfuzzer_sys::fuzz_target!(|raw: &[u8]| {
    if raw.starts_with(&[0x1f, 0x8b]) {
        let _ = opendepot_fuzz::check_archive(raw);
        return;
    }
    let mut tar = raw.to_vec();
    tar.resize(raw.len().next_multiple_of(BLOCK), 0);
    for block in tar.chunks_exact_mut(BLOCK).filter(|block| block[257..262] == *b"ustar") {
        let mut header = tar::Header::from_byte_slice(block).clone();
        header.set_cksum();
        block.copy_from_slice(header.as_bytes());
    }
    tar.extend([0; 2 * BLOCK]);
    let mut gzip = GzEncoder::new(Vec::new(), flate2::Compression::none());
    gzip.write_all(&tar).expect("memory");
    let _ = opendepot_fuzz::check_archive(&gzip.finish().expect("memory"));
});
