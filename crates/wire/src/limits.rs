//! How many elements the lists of a request may have, and how long its names may be.
//!
//! An element can be as small as one byte on the wire and tens of bytes decoded; these limits keep that ratio
//! from mattering. They are far above what an engine sends. The limits of names that are kept are in
//! [`larder_core::name`].

/// Token ids of a prompt: beyond the longest context a model is offered with.
pub const TOKEN_IDS_MAX: usize = 16 << 20;
/// Frame that a client recognises its answer by, in bytes; clients send a number.
pub const REQUEST_UID_BYTES_MAX: usize = 4096;
/// Names out of a small set, such as a data type's, in bytes.
pub(crate) const SHORT_NAME_BYTES_MAX: usize = 256;

/// Block-id lists (one per kernel group) in a store or retrieve.
pub(crate) const BLOCK_LISTS_MAX: usize = 4096;
/// Tensor descriptors in a registration: one per layer and plane.
pub(crate) const TENSORS_MAX: usize = 16_384;
/// Engine groups in a registration.
pub(crate) const ENGINE_GROUPS_MAX: usize = 4096;
/// Layers named by one engine group; more are refused.
pub(crate) const GROUP_LAYERS_MAX: usize = 65_536;
/// Dimensions of a tensor or slot.
pub(crate) const TENSOR_RANK_MAX: usize = 64;
/// Allocation records in one report; a longer one is refused.
pub(crate) const ALLOCATION_RECORDS_MAX: usize = 65_536;
/// Objects in one peer-to-peer request, and slots or addresses in one answer; more are refused.
pub(crate) const OBJECTS_MAX: usize = 1 << 20;
/// Object groups described in a peer-to-peer request.
pub(crate) const LAYOUT_GROUPS_MAX: usize = 4096;
/// Kernel groups described by one memory layout.
pub(crate) const LAYOUT_SHAPES_MAX: usize = 4096;
/// Segments matched by one blend lookup; more are refused.
pub(crate) const SEGMENTS_MAX: usize = 1 << 20;
/// Entries of the small per-group lists of a rope registration.
pub(crate) const ROPE_GROUPS_MAX: usize = 65_536;
/// Records in one batch of KV events, and block hashes in one record.
pub(crate) const EVENTS_MAX: usize = 1 << 20;
/// Names in a list of optional features; a longer one is refused.
pub(crate) const FEATURES_MAX: usize = 4096;
/// Planes of one NPU descriptor, and scalars in a plane's handle.
pub(crate) const PLANES_MAX: usize = 4096;
