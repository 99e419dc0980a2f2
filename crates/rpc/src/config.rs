//! What the front is told at its start.

/// What the front tells clients about the server.
#[derive(Clone, Debug)]
pub struct FrontConfig {
    /// Name of the shared-memory segment without a slash; empty when payloads travel in messages.
    pub shm_name: String,
    /// Bytes of the segment.
    pub pool_bytes: u64,
    /// Whether the log has a line for each store and retrieve.
    pub log_transfers: bool,
    /// Names of optional features, as `get_experimental` gives them.
    pub experimental: Vec<String>,
}
