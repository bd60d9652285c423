//! Memory of indexes: only one large index is in memory at a time, however many archives are read at once.

use std::sync::{Condvar, PoisonError};

use crate::domain::Mutex;

/// Size of an index in bytes up to which it needs no permit: that of about 16,000 files.
const SMALL_BYTES: usize = 2 << 20;

/// Whether an index has the permit for large ones.
static IS_TAKEN: Mutex<bool> = Mutex::new(false);
static RETURNED: Condvar = Condvar::new();

/// Memory of one index. A large index has the only permit for large ones until it is dropped.
#[derive(Default)]
pub(super) struct IndexMemory {
    is_large: bool,
}

impl IndexMemory {
    /// Records that the index has `bytes`. If that makes it large, this blocks while another one is.
    pub(super) fn grow_to(&mut self, bytes: usize) {
        if bytes > SMALL_BYTES && !self.is_large {
            let is_taken = RETURNED.wait_while(IS_TAKEN.lock(), |is_taken| *is_taken);
            *is_taken.unwrap_or_else(PoisonError::into_inner) = true;
            self.is_large = true;
        }
    }
}

impl Drop for IndexMemory {
    fn drop(&mut self) {
        if self.is_large {
            *IS_TAKEN.lock() = false;
            RETURNED.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread::spawn;
    use std::time::Duration;

    use super::*;

    fn grown_to(bytes: usize) -> IndexMemory {
        let mut memory = IndexMemory::default();
        memory.grow_to(bytes);
        memory
    }

    #[test]
    fn a_second_large_index_waits_for_the_end_of_the_first_and_a_small_one_does_not() {
        let mut first = grown_to(SMALL_BYTES + 1);
        first.grow_to(SMALL_BYTES + 2);
        drop(grown_to(SMALL_BYTES));
        let (sender, receiver) = channel();
        let second = spawn(move || {
            drop(grown_to(SMALL_BYTES + 1));
            sender.send(()).unwrap();
        });
        assert!(receiver.recv_timeout(Duration::from_millis(50)).is_err());
        drop(first);
        receiver.recv_timeout(Duration::from_mins(1)).unwrap();
        second.join().unwrap();
    }
}
