//! The read buffer which all connections of a thread share.

use std::cell::Cell;

/// Most bytes read at once into the scratch buffer.
pub(crate) const SCRATCH_BYTES: usize = 64 << 10;

thread_local! {
    static FREE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The thread's scratch buffer, on loan until dropped. A second loan at the same time gets a buffer of its
/// own.
pub(crate) struct Scratch(Vec<u8>);

impl Scratch {
    pub(crate) fn borrow() -> Self {
        let mut buffer = FREE.take();
        if buffer.is_empty() {
            buffer.resize(SCRATCH_BYTES, 0);
        }
        Self(buffer)
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        FREE.set(std::mem::take(&mut self.0));
    }
}
