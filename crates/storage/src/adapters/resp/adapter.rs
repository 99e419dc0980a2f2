//! The servers behind the adapter contract.

use std::sync::Arc;

use larder_core::key::ObjectKey;

use super::commands::Dialect;
use super::options::RespOptions;
use super::session::{Session, Shared};
use crate::adapter::{
    Adapter, AdapterFuture, DeleteMode, Deleted, Found, KeyResult, ListPage, ListRequest, LoadItem, Loaded,
    StoreItem, Stored,
};
use crate::adapters::link::Link;
use crate::adapters::remote::{Remote, RemoteOptions, RemoteSession, forward_to_remote};
use crate::error::{Failure, FailureKind};
use crate::report::{Health, Usage};

/// Threads for lookups, deletes and listings, each with its own connection to each server.
const CONTROL_THREADS: usize = 2;
/// Keys that travel together at most.
const KEYS_PER_GROUP: usize = 64;
/// Payload that travels together at most; a larger object travels alone.
const BYTES_PER_GROUP: usize = 4 << 20;

/// An adapter that keeps objects in Valkey or Redis.
///
/// Connects when first used, so a server that is down at the start is a failed call and no failed start.
#[derive(Debug)]
pub struct RespAdapter {
    shared: Arc<Shared>,
    remote: Remote<Session>,
}

impl RespAdapter {
    /// Starts the threads.
    ///
    /// # Errors
    /// Options that can't work, or threads that can't be started. A server that does not answer is none.
    pub fn new(options: RespOptions) -> Result<Self, Failure> {
        if options.nodes.is_empty() {
            return Err(Failure::permanent(FailureKind::Invalid, "no server is configured"));
        }
        let remote = RemoteOptions {
            kind: options.kind,
            workers: options.workers,
            control_threads: CONTROL_THREADS,
            queued_jobs_max: options.queued_jobs_max,
            keys_per_group: KEYS_PER_GROUP,
            bytes_per_group: BYTES_PER_GROUP,
            capacity_bytes: options.capacity_bytes,
        };
        let shared = Arc::new(Shared::new(Dialect { options })?);
        let sessions = Arc::clone(&shared);
        let remote = Remote::start(remote, move || Session::new(Arc::clone(&sessions)))?;
        Ok(Self { shared, remote })
    }
}

impl RemoteSession for Session {
    fn link(&self) -> &Link {
        &self.shared().link
    }

    fn store(&mut self, items: &[&StoreItem]) -> Vec<KeyResult<Stored>> {
        self.run(items, |item| &item.key, Dialect::store)
    }

    fn find(&mut self, keys: &[&ObjectKey]) -> Vec<KeyResult<Found>> {
        self.run(keys, |key| key, Dialect::find)
    }

    fn load(&mut self, items: &[&LoadItem]) -> Vec<KeyResult<Loaded>> {
        self.run(items, |item| &item.key, Dialect::load)
    }

    fn delete(&mut self, keys: &[&ObjectKey]) -> Vec<KeyResult<Deleted>> {
        self.run(keys, |key| key, Dialect::delete)
    }

    fn list(&mut self, request: &ListRequest) -> Result<ListPage, Failure> {
        self.page(request)
    }
}

impl Adapter for RespAdapter {
    forward_to_remote!();

    fn kind(&self) -> &'static str {
        self.shared.dialect.options.kind
    }

    fn health(&self) -> Health {
        let options = &self.shared.dialect.options;
        let nodes: Vec<String> = options.nodes.iter().map(ToString::to_string).collect();
        self.remote
            .health(&self.shared.link)
            .detail("nodes", nodes)
            .detail("cluster_mode", options.is_cluster)
            .detail("tls_enable", options.tls.is_some())
            .detail("key_prefix", options.key_prefix.clone())
    }
}
