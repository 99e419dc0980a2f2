//! Leases as owned values: which objects a request was promised, and how many readers have yet to come.
//!
//! The table only counts leases per object. Who holds them is recorded here, so that a request can give back what it
//! holds and nothing else. A set must be handed back with [`Cache::release_all`](crate::cache::Cache::release_all).

use std::ops::Range;

use crate::cache::EntryRef;

/// The leases one request took by one lookup.
#[derive(Debug)]
#[must_use = "leases that nobody gives back pin their objects"]
pub struct LeaseSet {
    readers: u8,
    rows: Vec<LeaseRow>,
}

#[derive(Debug)]
struct LeaseRow {
    rank: u32,
    group: u32,
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
        Self { readers, rows: Vec::new() }
    }

    /// Records the leases of one rank and group, for consecutive chunks from `first_chunk` on.
    pub fn add_row(
        &mut self,
        rank: u32,
        group: u32,
        first_chunk: usize,
        entries: impl Iterator<Item = EntryRef>,
    ) {
        let cells = entries.map(|entry| (entry, self.readers)).collect();
        self.rows.push(LeaseRow { rank, group, first_chunk, cells });
    }

    /// Takes one reader's lease on every chunk of `range` of `rank`, or nothing if one of them has none left.
    ///
    /// The caller owns what it got and must release it.
    pub fn take(&mut self, rank: u32, group: u32, range: Range<usize>) -> Option<Vec<EntryRef>> {
        let row = self.rows.iter_mut().find(|row| row.rank == rank && row.group == group)?;
        let cells = row.cells_in(&range);
        let cells = &mut row.cells[cells];
        if cells.len() != range.len() || cells.iter().any(|&(_, readers)| readers == 0) {
            return None;
        }
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
        taken
    }

    /// Leases still held.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.rows.iter().flat_map(|row| &row.cells).map(|&(_, readers)| u64::from(readers)).sum()
    }

    /// Every lease still held, for the table to release.
    pub(crate) fn into_leases(self) -> impl Iterator<Item = (EntryRef, u32)> {
        let cells = self.rows.into_iter().flat_map(|row| row.cells);
        cells.filter(|&(_, readers)| readers > 0).map(|(entry, readers)| (entry, u32::from(readers)))
    }
}
