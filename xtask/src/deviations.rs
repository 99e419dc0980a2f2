//! Reads tests/python/deviations.toml: where we answer otherwise than the reference server, and why.

use anyhow::Result;

use crate::tables;

/// Where the deviations are listed; the scenarios read the same file.
pub(crate) const PATH: &str = "tests/python/deviations.toml";

/// One deliberate difference.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Deviation {
    pub(crate) id: String,
    pub(crate) area: String,
    pub(crate) peer: String,
    pub(crate) ours: String,
    pub(crate) why: String,
}

/// All deviations, in the order of the file.
pub(crate) fn read() -> Result<Vec<Deviation>> {
    let tables = tables::read(PATH, "deviation", ["id", "area", "peer", "ours", "why"])?;
    let deviation = |[id, area, peer, ours, why]: [String; 5]| Deviation { id, area, peer, ours, why };
    Ok(tables.into_iter().map(deviation).collect())
}
