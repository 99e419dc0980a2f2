//! Objects that wait to be sealed.

use std::collections::VecDeque;

use larder_core::cache::EntryRef;

/// An object to seal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SealWork {
    pub(crate) entry: EntryRef,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

/// Objects that wait to be sealed.
#[derive(Debug, Default)]
pub(crate) struct SealQueue {
    pub(crate) required: bool,
    pub(crate) waiting: VecDeque<SealWork>,
}

impl SealQueue {
    /// Has every object sealed, whether or not there is a second tier.
    pub(crate) fn require(&mut self) {
        self.required = true;
    }
}
