//! The longest usable prefix of a prompt, under lease.

use super::table::Cache;
use crate::fold;
use crate::hash::ChunkHash;
use crate::key::Scope;
use crate::lease::LeaseSet;

/// One row of a lookup: the objects of one rank and object group.
#[derive(Clone, Debug)]
pub struct Row {
    /// Where the row's objects are.
    pub scope: Scope,
    /// The rank that will retrieve them.
    pub rank: u32,
    /// Trailing chunks that the group's attention looks at; `None` for full attention.
    pub window: Option<u32>,
}

/// Answer to [`Cache::lookup`].
#[derive(Debug)]
pub struct Lookup {
    /// Chunks from the start of the prompt that every row can serve.
    pub hit_chunks: usize,
    /// The leases taken on them.
    pub leases: LeaseSet,
}

impl Cache {
    /// Finds the longest prefix of `hashes` that all `rows` can serve, leases what will be read of it
    /// `readers` times over and marks it as just used.
    ///
    /// A row with full attention needs every chunk of the prefix, a windowed one the last chunks
    /// only (`spec/cache-semantics.md` 4.1).
    pub fn lookup(&mut self, rows: &[Row], hashes: &[ChunkHash], readers: u8) -> Lookup {
        let hit_chunks = self.usable_prefix(rows, hashes);
        let mut leases = LeaseSet::new(readers);
        for row in rows {
            let kept = match row.window {
                Some(window) => hit_chunks.saturating_sub(window as usize)..hit_chunks,
                None => 0..hit_chunks,
            };
            let entries = hashes[kept.clone()].iter().map_while(|hash| {
                let entry = self.find(&row.scope, hash)?;
                self.lease(entry, u32::from(readers)).then_some(entry)
            });
            leases.add_row(row.rank, kept.start, entries);
            self.touch(&row.scope, &hashes[..hit_chunks]);
        }
        Lookup { hit_chunks, leases }
    }

    /// How much of a prompt from its start every row could serve, in chunks. Nothing is leased, nothing
    /// counts as used.
    #[must_use]
    pub fn usable_prefix(&self, rows: &[Row], hashes: &[ChunkHash]) -> usize {
        if rows.iter().all(|row| row.window.is_none()) {
            self.full_prefix(rows, hashes)
        } else {
            self.windowed_prefix(rows, hashes)
        }
    }

    /// Gives back every lease of a set.
    pub fn release_all(&mut self, leases: LeaseSet) {
        for (entry, count) in leases.into_leases() {
            self.release(entry, count);
        }
    }

    fn full_prefix(&self, rows: &[Row], hashes: &[ChunkHash]) -> usize {
        let mut hit = hashes.len();
        for row in rows {
            let Some(scope) = self.scopes.find(&row.scope) else { return 0 };
            let present = |hash| self.find_resident(scope, hash).is_some();
            hit = hashes[..hit].iter().take_while(|hash| present(hash)).count();
        }
        hit
    }

    fn windowed_prefix(&self, rows: &[Row], hashes: &[ChunkHash]) -> usize {
        let rows: Vec<fold::Row> = rows
            .iter()
            .map(|row| fold::Row {
                window: row.window,
                present: hashes.iter().map(|hash| self.find(&row.scope, hash).is_some()).collect(),
            })
            .collect();
        fold::hit_chunks(&rows)
    }
}
