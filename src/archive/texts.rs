//! Paths and link targets of an archive, in memory.

use super::ArchiveError;
use super::limits::Budget;

/// Size of each allocation. If all texts were in one, it would be in memory twice whenever it grows.
const CHUNK_BYTES: usize = 1 << 20;

/// A piece of text in [`Texts`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Text {
    start: u32,
    len: u16,
}

/// Many short texts in a few allocations.
#[derive(Debug, Default)]
pub(super) struct Texts {
    /// The chunks that come before these, if these texts continue others.
    before: usize,
    chunks: Vec<Vec<u8>>,
    /// Bytes of all texts, with those that these continue.
    bytes: usize,
}

impl Texts {
    /// Texts that continue `others`: they count against the same limit, and can be appended to them.
    pub(super) fn after(others: &Self) -> Self {
        Self { before: others.before + others.chunks.len(), chunks: Vec::new(), bytes: others.bytes }
    }

    /// Appends texts that continue these.
    pub(super) fn append(&mut self, next: Self) {
        self.chunks.extend(next.chunks);
        self.bytes = next.bytes;
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Keeps a copy of `text`.
    ///
    /// # Errors
    /// When all texts together get longer than `budget` allows.
    pub(super) fn push(&mut self, text: &[u8], budget: &Budget) -> Result<Text, ArchiveError> {
        budget.check_paths(self.bytes + text.len())?;
        let len = u16::try_from(text.len()).map_err(|_| budget.paths_too_long())?;
        // A chunk is never full, so that each position belongs to one chunk.
        if self.chunks.last().is_none_or(|chunk| chunk.len() + text.len() >= CHUNK_BYTES) {
            self.chunks.push(Vec::new());
        }
        let last = self.chunks.len() - 1;
        let chunk = &mut self.chunks[last];
        let start = (self.before + last) * CHUNK_BYTES + chunk.len();
        let start = u32::try_from(start).map_err(|_| budget.paths_too_long())?;
        chunk.extend_from_slice(text);
        self.bytes += text.len();
        Ok(Text { start, len })
    }

    pub(super) fn get(&self, text: Text) -> &[u8] {
        let start = text.start as usize;
        let chunk = &self.chunks[start / CHUNK_BYTES - self.before];
        let start = start % CHUNK_BYTES;
        &chunk[start..start + usize::from(text.len)]
    }
}

#[cfg(test)]
mod tests {
    use super::super::Limits;
    use super::*;

    #[test]
    fn texts_are_found_again_in_every_chunk_and_after_they_are_appended() {
        let budget = Limits::default().budget(0);
        let text = |i: usize| format!("{i:0>1000}").into_bytes();
        let mut first = Texts::default();
        let mut texts: Vec<Text> = (0..2500).map(|i| first.push(&text(i), &budget).unwrap()).collect();
        let mut second = Texts::after(&first);
        texts.extend((2500..5000).map(|i| second.push(&text(i), &budget).unwrap()));
        let empty = second.push(b"", &budget).unwrap();
        assert_eq!(second.get(texts[4999]), text(4999));
        assert_eq!((first.bytes(), second.bytes()), (2_500_000, 5_000_000));
        first.append(second);
        assert_eq!((first.bytes(), first.get(empty)), (5_000_000, &b""[..]));
        for (i, stored) in texts.into_iter().enumerate() {
            assert_eq!(first.get(stored), text(i));
        }
    }

    #[test]
    fn texts_that_continue_others_share_their_limit() {
        let budget = Limits { entries: 0, ..Limits::default() }.budget(0);
        let half = vec![b'n'; 1 << 15];
        let mut first = Texts::default();
        for _ in 0..31 {
            first.push(&half, &budget).unwrap();
        }
        let mut second = Texts::after(&first);
        second.push(&half, &budget).unwrap();
        assert!(matches!(second.push(b"n", &budget), Err(ArchiveError::PathsTooLong { .. })));
    }
}
