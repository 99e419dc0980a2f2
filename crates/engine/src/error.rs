//! Why an operation could not be done.

use larder_core::key::KeyError;
use larder_core::layout::LayoutError;

/// A request the engine refuses. The text goes to the client's log.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The key cannot name objects.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The registration cannot describe objects.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The transfer needs one rank, the key is the scheduler's.
    #[error("`worker_id` is missing: transfers are made by one worker")]
    WorkerIdMissing,
    /// The client did not say how many readers will come.
    #[error("`num_kv_readers` is `{0}`; a lookup must say how many workers will retrieve")]
    Readers(u32),
    /// The worker is not registered, or was reaped.
    #[error("instance `{0}` is not registered")]
    UnknownInstance(i64),
    /// Too many workers.
    #[error(
        "instance `{0}` can't be registered: {max} are registered already, or {own} on this connection",
        max = crate::limits::INSTANCES_MAX,
        own = crate::limits::INSTANCES_PER_CONNECTION_MAX
    )]
    TooManyInstances(i64),
    /// The worker speaks on too many connections.
    #[error(
        "instance `{0}` speaks on more than {max} connections",
        max = crate::limits::CONNECTIONS_PER_INSTANCE_MAX
    )]
    TooManyConnections(i64),
    /// Engines of the model are of too many kinds.
    #[error(
        "instance `{0}` can't be registered: there are too many layouts of the objects of this model and world size already; \
         hint: unregister engines that are gone"
    )]
    TooManyLayouts(i64),
    /// The connection has unfinished transfers of too many registrations.
    #[error(
        "instance `{0}` can't be registered: too many registrations of this connection are over and have unfinished transfers; \
         hint: commit them, or connect again"
    )]
    TooManyLeftovers(i64),
    /// The key's tokens were not hashed as far as its range.
    #[error("the range ends beyond the tokens that were hashed")]
    MissingHashes,
    /// The worker has too many unfinished transfers.
    #[error(
        "instance `{0}` has {max} transfers between prepare and commit; hint: commit them, or register again",
        max = crate::limits::PENDING_PER_INSTANCE_MAX
    )]
    TooManyPending(i64),
    /// The pool can't be accessed as asked.
    #[error(transparent)]
    Pool(#[from] larder_pool::PoolError),
    /// The worker's bytes are not what it registered.
    #[error("chunk {index} is {got}, registered is {want}")]
    WrongChunk {
        /// Position in the request.
        index: usize,
        /// What came.
        got: String,
        /// What was to come.
        want: String,
    },
}
