//! The bucket behind the adapter contract.

use std::sync::Arc;

use larder_core::key::ObjectKey;

use super::options::S3Options;
use super::session::{Session, Shared};
use crate::adapter::{
    Adapter, AdapterFuture, DeleteMode, Deleted, Found, KeyResult, ListPage, ListRequest, LoadItem, Loaded,
    StoreItem, Stored,
};
use crate::adapters::remote::{Remote, RemoteOptions, forward_to_remote};
use crate::error::Failure;
use crate::report::{Health, Usage};

/// Threads for lookups, deletes and listings, each with its own connection: a lookup is a request per object.
const CONTROL_THREADS: usize = 8;
/// Requests one thread makes at a stretch: there is one per object, and the threads are what makes them
/// overlap.
const KEYS_PER_GROUP: usize = 4;
/// Payload one thread moves at a stretch; a larger object goes alone.
const BYTES_PER_GROUP: usize = 1 << 20;

/// An adapter that keeps objects in a bucket.
///
/// Connects when first used, so a store that is down at the start is a failed call and no failed start.
#[derive(Debug)]
pub struct S3Adapter {
    shared: Arc<Shared>,
    remote: Remote<Session>,
}

impl S3Adapter {
    /// Starts the threads.
    ///
    /// # Errors
    /// Options that can't work, or threads that can't be started. A store that does not answer is none.
    pub fn new(options: S3Options) -> Result<Self, Failure> {
        let remote = RemoteOptions {
            kind: "s3",
            workers: options.workers,
            control_threads: CONTROL_THREADS,
            queued_jobs_max: options.queued_jobs_max,
            keys_per_group: KEYS_PER_GROUP,
            bytes_per_group: BYTES_PER_GROUP,
            capacity_bytes: options.capacity_bytes,
        };
        let shared = Arc::new(Shared::new(options)?);
        let sessions = Arc::clone(&shared);
        let remote = Remote::start(remote, move || Session::new(Arc::clone(&sessions)))?;
        Ok(Self { shared, remote })
    }
}

impl Adapter for S3Adapter {
    forward_to_remote!();

    fn kind(&self) -> &'static str {
        "s3"
    }

    fn health(&self) -> Health {
        let options = &self.shared.options;
        self.remote
            .health(&self.shared.link)
            .detail("endpoint", options.authority())
            .detail("bucket", options.bucket.clone())
            .detail("region", options.region.clone())
            .detail("key_prefix", options.key_prefix.clone())
    }
}
