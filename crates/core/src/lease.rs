//! Leases as owned values: which objects a request was promised, and how many readers have yet to come.
//!
//! The table only counts leases per object. Who holds them is recorded here, so that a request can give back
//! what it holds and nothing else. A set must be handed back with
//! [`Cache::release_all`](crate::cache::Cache::release_all).

use std::ops::Range;

use crate::cache::EntryRef;

/// The leases one request took by one lookup, row by row as it looked up.
#[derive(Debug)]
#[must_use = "leases that nobody gives back pin their objects"]
pub struct LeaseSet {
    readers: u8,
    rows: Vec<LeaseRow>,
    held: u64,
}

#[derive(Debug)]
struct LeaseRow {
    rank: u32,
    first_chunk: usize,
    cells: Vec<(EntryRef, u8)>,
}

impl LeaseRow {
    /// Cell positions of the chunks of `range` that this row has.
    fn cells_in(&self, range: &Range<usize>) -> Range<usize> {
        let position = |chunk: usize| chunk.saturating_sub(self.first_chunk).min(self.cells.len());
        position(range.start)..position(range.end)
    }
}

impl LeaseSet {
    /// An empty set whose objects are each leased for `readers` readers.
    pub fn new(readers: u8) -> Self {
        Self { readers, rows: Vec::new(), held: 0 }
    }

    /// Records the leases of the next row, which is `rank`'s, for consecutive chunks from `first_chunk` on.
    pub fn add_row(&mut self, rank: u32, first_chunk: usize, entries: impl Iterator<Item = EntryRef>) {
        let cells: Vec<_> = entries.map(|entry| (entry, self.readers)).collect();
        self.held += cells.len() as u64 * u64::from(self.readers);
        self.rows.push(LeaseRow { rank, first_chunk, cells });
    }

    /// Takes one reader's lease on every chunk of `range` of the row at this position, or nothing if one of
    /// them has none left.
    ///
    /// The caller owns what it got and must release it.
    pub fn take(&mut self, row: usize, range: Range<usize>) -> Option<Vec<EntryRef>> {
        let row = self.rows.get_mut(row)?;
        let cells = row.cells_in(&range);
        let cells = &mut row.cells[cells];
        if cells.len() != range.len() || cells.iter().any(|&(_, readers)| readers == 0) {
            return None;
        }
        debug_assert!(cells.len() as u64 <= self.held, "each lease is counted");
        self.held -= cells.len() as u64;
        let taken = cells.iter_mut().map(|(entry, readers)| {
            *readers -= 1;
            *entry
        });
        Some(taken.collect())
    }

    /// Takes every lease on the chunks of `range`, of `rank` or of all ranks, for the caller to release.
    pub fn take_range(&mut self, rank: Option<u32>, range: Range<usize>) -> Vec<(EntryRef, u32)> {
        let mut taken = Vec::new();
        for row in self.rows.iter_mut().filter(|row| rank.is_none_or(|rank| row.rank == rank)) {
            let cells = row.cells_in(&range);
            for (entry, readers) in &mut row.cells[cells] {
                if *readers > 0 {
                    taken.push((*entry, u32::from(std::mem::take(readers))));
                }
            }
        }
        let readers = taken.iter().map(|&(_, readers)| u64::from(readers)).sum::<u64>();
        debug_assert!(readers <= self.held, "each lease is counted");
        self.held -= readers;
        taken
    }

    /// Leases still held. Takes the same time for any number of them.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.held
    }

    /// Bytes it takes in memory, roughly.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        let cells: usize = self.rows.iter().map(|row| size_of_val(&*row.cells)).sum();
        size_of_val(&*self.rows) + cells
    }

    /// Every lease still held, for the table to release.
    pub(crate) fn into_leases(self) -> impl Iterator<Item = (EntryRef, u32)> {
        let cells = self.rows.into_iter().flat_map(|row| row.cells);
        cells.filter(|&(_, readers)| readers > 0).map(|(entry, readers)| (entry, u32::from(readers)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry_ref(id: u32) -> EntryRef {
        EntryRef::numbered(id)
    }

    #[test]
    fn what_is_held_is_what_was_not_taken() {
        let mut leases = LeaseSet::new(2);
        leases.add_row(0, 0, (0..4).map(entry_ref));
        leases.add_row(1, 2, (4..6).map(entry_ref));
        assert_eq!(leases.held(), 12);
        assert_eq!(leases.take(0, 1..3), Some(vec![entry_ref(1), entry_ref(2)]));
        assert_eq!(leases.held(), 10);
        assert_eq!(leases.take_range(Some(0), 2..9), [(entry_ref(2), 1), (entry_ref(3), 2)]);
        assert_eq!(leases.held(), 7);
        assert_eq!(leases.take(0, 1..3), None, "the last of them is taken");
        assert_eq!(leases.take_range(None, 0..3), [(entry_ref(0), 2), (entry_ref(1), 1), (entry_ref(4), 2)]);
        assert_eq!(leases.held(), 2);
        assert_eq!(leases.into_leases().collect::<Vec<_>>(), [(entry_ref(5), 2)]);
    }

    #[test]
    fn each_row_has_leases_of_its_own() {
        let mut leases = LeaseSet::new(1);
        for row in 0..4 {
            leases.add_row(row / 2, 0, std::iter::once(entry_ref(row)));
        }
        for row in 0..4 {
            assert_eq!(leases.take(row as usize, 0..1), Some(vec![entry_ref(row)]), "{row}");
        }
        assert_eq!(leases.take(4, 0..1), None);
    }

    #[test]
    fn chunks_before_the_first_one_are_nobodys() {
        let mut leases = LeaseSet::new(1);
        leases.add_row(0, 3, (0..2).map(entry_ref));
        assert_eq!(leases.take(0, 2..4), None, "the row has the chunks 3 and 4");
        assert_eq!(leases.take(0, 3..5), Some(vec![entry_ref(0), entry_ref(1)]));
    }
}
