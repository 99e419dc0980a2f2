//! How many there may be of what clients make, where the text of an error says so.

/// Most registered instances; a fleet's node has tens. When there are as many, those that are gone make room
/// for new ones.
pub(crate) const INSTANCES_MAX: usize = 16_384;

/// Most instances that one connection registers.
pub(crate) const INSTANCES_PER_CONNECTION_MAX: usize = 256;

/// Most open connections on which one instance transfers. None is forgotten: when the last is gone, so is the
/// worker.
pub(crate) const CONNECTIONS_PER_INSTANCE_MAX: usize = 64;

/// Most transfers one instance may have between prepare and commit.
pub(crate) const PENDING_PER_INSTANCE_MAX: usize = 4_096;
