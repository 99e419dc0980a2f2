//! What a worker says of itself when it registers.

use std::sync::Arc;

use larder_core::layout::ObjectLayout;

/// What a worker says of itself when it registers for engine-driven transfer (`spec/mp-protocol.md` 3.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Registration {
    /// The model as object keys carry it.
    pub model_name: Arc<str>,
    /// Number of ranks that share a prompt's objects.
    pub world_size: u32,
    /// Tokens per block of the engine's paged cache; shown in status pages only.
    pub block_size: u32,
    /// Whether objects have one plane instead of two.
    pub use_mla: bool,
    /// Shape, data type and size of every object.
    pub layout: Arc<ObjectLayout>,
}
