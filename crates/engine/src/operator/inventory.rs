//! L1 object by object: listing and removal by name, a bounded number at a time.

use larder_core::cache::{Listed, NamedRemoval};
use larder_core::key::ObjectKey;

use crate::faces::Operator;

/// Object records walked under one hold of the lock.
const LIST_STEP: u32 = 4_096;

/// Objects removed under one hold of the lock.
const REMOVE_STEP: usize = 64;

/// One page of a listing.
#[derive(Clone, Debug)]
pub struct ObjectPage {
    /// Objects, in no particular order.
    pub objects: Vec<Listed>,
    /// Where the next page begins; none on the last.
    pub next: Option<u32>,
}

/// What a removal by name did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemovalCount {
    /// Objects removed.
    pub deleted: usize,
    /// Objects left because somebody reads them.
    pub skipped: usize,
}

impl Operator {
    /// At least `objects_min` objects of L1, or all that are left, from record `from` on; only those of
    /// `model_name` if given.
    #[must_use]
    pub fn list_objects(&self, from: u32, objects_min: usize, model_name: Option<&str>) -> ObjectPage {
        let mut page = ObjectPage { objects: Vec::new(), next: Some(from) };
        while let Some(from) = page.next.filter(|_| page.objects.len() < objects_min) {
            let step = LIST_STEP.min(u32::try_from(objects_min - page.objects.len()).unwrap_or(u32::MAX));
            let (listed, next) = self.state().cache.list_step(from, step);
            let wanted = |listed: &Listed| {
                model_name.is_none_or(|name| **listed.scope.namespace.model_name() == *name)
            };
            page.objects.extend(listed.into_iter().filter(wanted));
            page.next = next;
        }
        page
    }

    /// Removes objects from L1. Without `force` those that somebody reads stay; with it they leave the index
    /// at once, and their memory is reused when their last reader lets go.
    #[must_use]
    pub fn remove_objects(&self, keys: &[ObjectKey], force: bool) -> RemovalCount {
        let mut count = RemovalCount::default();
        for keys in keys.chunks(REMOVE_STEP) {
            let mut state = self.state();
            for key in keys {
                match state.cache.remove_named(key, force) {
                    NamedRemoval::Yes => count.deleted += 1,
                    NamedRemoval::InUse => count.skipped += 1,
                    NamedRemoval::Absent => {}
                }
            }
            self.record_removals(&mut state);
        }
        count
    }
}
