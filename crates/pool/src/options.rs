//! What pool to make.

/// What pool to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentOptions {
    /// Name under which clients map the pool, with or without prefix and slash; `None` for private memory.
    pub share: Option<String>,
    /// Size in bytes.
    pub bytes: u64,
    /// Whether to use huge pages where the machine has them; [`crate::Segment::pages`] tells what came of it.
    pub hugepages: bool,
}
