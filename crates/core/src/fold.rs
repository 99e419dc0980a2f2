//! How much of a prompt can be served when ranks and object groups hold different chunks of it
//! (`spec/cache-semantics.md` 4.1).

/// What one rank and object group has of a prompt.
#[derive(Clone, Debug)]
pub struct Row {
    /// Trailing chunks the group's attention looks at; `None` for all.
    pub window: Option<u32>,
    /// Whether each chunk is there.
    pub present: Vec<bool>,
}

/// The longest prefix every row can serve.
///
/// A row serves a prefix of `n` chunks if the run of present chunks that ends with the last of them is as
/// long as its window, or reaches back to the start.
#[must_use]
pub fn hit_chunks(rows: &[Row]) -> usize {
    let chunks = rows.iter().map(|row| row.present.len()).min().unwrap_or(0);
    let mut runs = vec![0usize; rows.len()];
    let mut hit = 0;
    for length in 1..=chunks {
        let mut served = true;
        for (row, run) in rows.iter().zip(&mut runs) {
            *run = if row.present[length - 1] { *run + 1 } else { 0 };
            let need = row.window.map_or(length, |window| length.min(window as usize));
            served &= *run >= need;
        }
        if served {
            hit = length;
        }
    }
    hit
}
