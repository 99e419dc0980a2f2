//! The servers behind the adapter contract: batches in groups onto threads, locks and accounts on this side.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::commands::{Command, Dialect, SEAL_PREFIX};
use super::options::{Node, RespOptions};
use super::reply::Reply;
use super::session::{Session, Shared};
use crate::adapter::{
    Adapter, AdapterFuture, DeleteMode, Deleted, Found, KeyResult, ListPage, ListRequest, Listed, LoadItem,
    Loaded, StoreItem, Stored, all_failed,
};
use crate::buffer::Lent;
use crate::error::{Busy, Error, Failure, FailureKind};
use crate::index::Index;
use crate::key::{Key, KeyDecoder};
use crate::locks::{LockTable, StoreClaim};
use crate::report::{Health, HealthState, Usage};
use crate::workers::{Batch, Slot, Workers};

/// Threads for what is quick: lookups, deletes, listings.
const CONTROL_THREADS: usize = 2;
/// Keys that travel together at most.
const KEYS_PER_GROUP: usize = 64;
/// Payload that travels together at most; a larger object travels alone.
const BYTES_PER_GROUP: usize = 4 << 20;

/// An adapter that keeps objects in Valkey or Redis.
///
/// Connects when first used, so a server that is down at the start is a failed call and no failed start. Accounts
/// cover what this process stored or found, as in the peer.
#[derive(Debug)]
pub struct RespAdapter {
    shared: Arc<Shared>,
    accounts: Arc<Mutex<Index<()>>>,
    locks: Arc<LockTable>,
    transfers: Workers<Session>,
    control: Workers<Session>,
    is_closed: AtomicBool,
}

/// Something to move, with the buffer it moves from or to.
trait Payload {
    fn buffer(&self) -> &Lent;
}

impl Payload for (StoreItem, Option<StoreClaim>) {
    fn buffer(&self) -> &Lent {
        &self.0.buffer
    }
}

impl Payload for LoadItem {
    fn buffer(&self) -> &Lent {
        &self.buffer
    }
}

impl RespAdapter {
    /// Starts the threads.
    pub fn new(options: RespOptions) -> Result<Self, Failure> {
        if options.nodes.is_empty() {
            return Err(Failure::permanent(FailureKind::Invalid, "no server is configured"));
        }
        let (workers, queued_jobs_max) = (options.workers.max(1), options.queued_jobs_max);
        let shared = Arc::new(Shared::new(Dialect { options }));
        let start = |name, threads| {
            let sessions = (0..threads).map(|_| Session::new(shared.clone())).collect();
            Workers::start(name, queued_jobs_max, sessions)
                .map_err(|error| Failure::io(format!("start threads `{name}`"), &error))
        };
        Ok(Self {
            transfers: start("l2-resp-io", workers)?,
            control: start("l2-resp-ctl", CONTROL_THREADS)?,
            shared,
            accounts: Arc::new(Mutex::new(Index::new())),
            locks: Arc::default(),
            is_closed: AtomicBool::new(false),
        })
    }

    fn check_open(&self) -> Result<(), Error> {
        if self.is_closed.load(Ordering::Acquire) { Err(Failure::closed().into()) } else { Ok(()) }
    }

    /// Runs a job for one answer on a control thread.
    async fn ask<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Session) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let (batch, slots) = Batch::new(1);
        self.control.submit_for(slots, move |session, slots| {
            let result = job(session);
            slots
                .into_iter()
                .zip([result])
                .for_each(|(slot, result)| slot.report(result.map_err(Error::from)));
        });
        match batch.wait().await.pop() {
            Some(Ok(value)) => Ok(value),
            Some(Err(Error::Failed(failure))) => Err(failure),
            Some(Err(busy)) => Err(Failure::retryable(FailureKind::Unavailable, busy.to_string())),
            None => Err(Failure::closed()),
        }
    }

    /// The servers to list, in an order that lasts as long as the cluster does.
    async fn listed_nodes(&self) -> Result<Vec<Node>, Failure> {
        let options = &self.shared.dialect.options;
        if !options.is_cluster {
            return Ok(options.nodes[..1].to_vec());
        }
        let known = self.shared.slots().nodes();
        if known.is_empty() {
            self.ask(|session| Ok(session.learn_slots()?.nodes())).await
        } else {
            Ok(known)
        }
    }

    async fn page(&self, request: ListRequest) -> Result<ListPage, Failure> {
        let (position, cursor) = parse_token(request.page_token.as_deref())?;
        let nodes = self.listed_nodes().await?;
        let Some(node) = nodes.get(position).cloned() else { return Ok(ListPage::default()) };
        let shared = self.shared.clone();
        let (next, entries) =
            self.ask(move |session| scan(session, &shared, &node, cursor, &request)).await?;
        let next_page_token = match next {
            0 if position + 1 < nodes.len() => Some(format!("{}.0", position + 1)),
            0 => None,
            next => Some(format!("{position}.{next}")),
        };
        Ok(ListPage { entries, next_page_token })
    }
}

/// One step of a server's own listing.
fn scan(
    session: &mut Session,
    shared: &Shared,
    node: &Node,
    cursor: u64,
    request: &ListRequest,
) -> Result<(u64, Vec<Listed>), Failure> {
    let prefix = match shared.dialect.options.key_prefix.as_str() {
        "" => String::new(),
        prefix => format!("{prefix}@"),
    };
    let command = Command::new("SCAN")
        .arg(cursor.to_string())
        .arg("MATCH")
        .arg(format!("{}*@*@*@*", escape_glob(&prefix)))
        .arg("COUNT")
        .arg(request.entries_max.clamp(1, 10_000).to_string());
    let unexpected = |reply: &Reply| {
        Failure::permanent(FailureKind::Io, format!("list `{node}`: unexpected reply `{reply:?}`"))
    };
    let reply = session.with(node, |connection| {
        connection.send(&command.encode())?;
        connection.reply()
    })?;
    let Reply::Array(parts) = &reply else { return Err(unexpected(&reply)) };
    let [Reply::Bytes(next), Reply::Array(names)] = parts.as_slice() else { return Err(unexpected(&reply)) };
    let next = String::from_utf8_lossy(next).parse().map_err(|_| unexpected(&reply))?;
    let decoder = KeyDecoder::default();
    let keys: Vec<Key> = names.iter().filter_map(|name| listed_key(name, &prefix, &decoder)).collect();
    let wanted = |key: &Key| request.model_name.as_deref().is_none_or(|model| model == &*key.model_name);
    let keys: Vec<Key> = keys.into_iter().filter(wanted).collect();
    // Through the usual way: a key may move to another server meanwhile.
    let found = session.run(&keys, |key| key, Dialect::find);
    let entries = keys.into_iter().zip(found);
    let entries = entries.filter_map(|(key, found)| Some(Listed { key, bytes: found.ok()?.bytes? }));
    Ok((next, entries.collect()))
}

fn listed_key(name: &Reply, prefix: &str, decoder: &KeyDecoder) -> Option<Key> {
    let Reply::Bytes(name) = name else { return None };
    let name = std::str::from_utf8(name).ok()?;
    if name.starts_with(SEAL_PREFIX) {
        return None;
    }
    decoder.wire_name(name.strip_prefix(prefix)?)
}

fn escape_glob(text: &str) -> String {
    let special = |c: char| matches!(c, '*' | '?' | '[' | ']' | '\\' | '^');
    text.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c])).collect()
}

fn parse_token(token: Option<&str>) -> Result<(usize, u64), Failure> {
    let Some(token) = token else { return Ok((0, 0)) };
    let parsed =
        token.split_once('.').and_then(|(node, cursor)| Some((node.parse().ok()?, cursor.parse().ok()?)));
    parsed.ok_or_else(|| {
        Failure::permanent(
            FailureKind::Invalid,
            format!("page token `{}` is not one of ours", token.escape_debug()),
        )
    })
}

/// Splits a batch into groups that travel together, each with its slots.
fn grouped<I: Payload, T>(items: Vec<(I, Slot<T>)>) -> Vec<(Vec<I>, Vec<Slot<T>>)> {
    let mut groups: Vec<(Vec<I>, Vec<Slot<T>>)> = Vec::new();
    let mut room = 0;
    for (item, slot) in items {
        let bytes = item.buffer().len();
        match groups.last_mut() {
            Some((items, slots)) if bytes <= room && items.len() < KEYS_PER_GROUP => {
                room -= bytes;
                items.push(item);
                slots.push(slot);
            }
            _ => {
                room = BYTES_PER_GROUP.saturating_sub(bytes);
                groups.push((vec![item], vec![slot]));
            }
        }
    }
    groups
}

fn lock_accounts(accounts: &Mutex<Index<()>>) -> MutexGuard<'_, Index<()>> {
    accounts.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Adapter for RespAdapter {
    fn kind(&self) -> &'static str {
        if self.shared.dialect.options.is_cluster { "valkey" } else { "resp" }
    }

    fn store(&self, batch: Vec<StoreItem>) -> AdapterFuture<'_, Vec<KeyResult<Stored>>> {
        Box::pin(async move {
            let (answers, slots) = Batch::new(batch.len());
            let mut items = Vec::new();
            for (item, slot) in batch.into_iter().zip(slots) {
                match self.locks.claim_store(&item.key) {
                    Ok(claim) => items.push(((item, claim), slot)),
                    Err(busy) => {
                        drop(item);
                        slot.report(Err(Error::Busy(busy)));
                    }
                }
            }
            for (items, slots) in grouped(items) {
                let accounts = self.accounts.clone();
                self.transfers.submit_for(slots, move |session, slots| {
                    if !slots.iter().any(Slot::is_wanted) {
                        return;
                    }
                    let results = session.run(
                        &items,
                        |(item, _)| &item.key,
                        |dialect, connection, node, group, asking| {
                            let group: Vec<&StoreItem> = group.iter().map(|(item, _)| item).collect();
                            dialect.store(connection, node, &group, asking)
                        },
                    );
                    for (((item, claim), slot), result) in items.into_iter().zip(slots).zip(results) {
                        if result.is_ok() {
                            lock_accounts(&accounts).insert(&item.key, item.buffer.len() as u64, ());
                        }
                        drop((item, claim));
                        slot.report(result);
                    }
                });
            }
            answers.wait().await
        })
    }

    fn lookup_and_lock(&self, keys: Vec<Key>) -> AdapterFuture<'_, Vec<KeyResult<Found>>> {
        Box::pin(async move {
            if let Err(error) = self.check_open() {
                return all_failed(keys.len(), &error);
            }
            let (answers, slots) = Batch::new(keys.len());
            let mut slots = slots.into_iter();
            for keys in keys.chunks(KEYS_PER_GROUP) {
                let keys = keys.to_vec();
                self.control.submit_for(slots.by_ref().take(keys.len()).collect(), move |session, slots| {
                    if !slots.iter().any(Slot::is_wanted) {
                        return;
                    }
                    let results = session.run(&keys, |key| key, Dialect::find);
                    slots.into_iter().zip(results).for_each(|(slot, result)| slot.report(result));
                });
            }
            let found = answers.wait().await;
            // No await from here on: a future dropped earlier has locked nothing.
            let mut accounts = lock_accounts(&self.accounts);
            let lock = |(key, found): (&Key, KeyResult<Found>)| {
                let found = found?;
                if !self.locks.lock(key) {
                    return Err(Error::Absent);
                }
                if let Some(bytes) = found.bytes {
                    accounts.insert(key, bytes, ());
                }
                Ok(found)
            };
            keys.iter().zip(found).map(lock).collect()
        })
    }

    fn load(&self, batch: Vec<LoadItem>) -> AdapterFuture<'_, Vec<KeyResult<Loaded>>> {
        Box::pin(async move {
            let (answers, slots) = Batch::new(batch.len());
            for (items, slots) in grouped(batch.into_iter().zip(slots).collect()) {
                let accounts = self.accounts.clone();
                self.transfers.submit_for(slots, move |session, slots| {
                    if !slots.iter().any(Slot::is_wanted) {
                        return;
                    }
                    let results = session.run(&items, |item| &item.key, Dialect::load);
                    for ((item, slot), result) in items.into_iter().zip(slots).zip(results) {
                        if result == Err(Error::Absent) {
                            lock_accounts(&accounts).remove(&item.key);
                        }
                        drop(item);
                        slot.report(result);
                    }
                });
            }
            answers.wait().await
        })
    }

    fn unlock(&self, keys: &[Key]) {
        self.locks.unlock(keys);
    }

    fn delete(&self, keys: Vec<Key>, mode: DeleteMode) -> AdapterFuture<'_, Vec<KeyResult<Deleted>>> {
        Box::pin(async move {
            let (answers, slots) = Batch::new(keys.len());
            let mut claimed = Vec::new();
            for (key, slot) in keys.into_iter().zip(slots) {
                match self.locks.claim_delete(&key) {
                    Ok(claim) => claimed.push((key, Some(claim), slot)),
                    Err(Busy::Locked) if mode != DeleteMode::IfUnlocked => claimed.push((key, None, slot)),
                    Err(busy) => slot.report(Err(Error::Busy(busy))),
                }
            }
            while !claimed.is_empty() {
                let group: Vec<_> = claimed.drain(..claimed.len().min(KEYS_PER_GROUP)).collect();
                let (held, slots): (Vec<_>, Vec<_>) =
                    group.into_iter().map(|(key, claim, slot)| ((key, claim), slot)).unzip();
                let accounts = self.accounts.clone();
                self.control.submit_for(slots, move |session, slots| {
                    let results = session.run(
                        &held,
                        |(key, _)| key,
                        |dialect, connection, node, group, asking| {
                            let group: Vec<&Key> = group.iter().map(|(key, _)| key).collect();
                            dialect.delete(connection, node, &group, asking)
                        },
                    );
                    for (((key, claim), slot), result) in held.into_iter().zip(slots).zip(results) {
                        if matches!(result, Ok(_) | Err(Error::Absent)) {
                            lock_accounts(&accounts).remove(&key);
                        }
                        drop(claim);
                        slot.report(result);
                    }
                });
            }
            answers.wait().await
        })
    }

    fn list(&self, request: ListRequest) -> AdapterFuture<'_, Result<ListPage, Failure>> {
        Box::pin(self.page(request))
    }

    fn usage(&self) -> Usage {
        let accounts = lock_accounts(&self.accounts);
        Usage {
            objects: accounts.objects(),
            bytes_used: accounts.bytes(),
            bytes_capacity: self.shared.dialect.options.capacity_bytes,
            bytes_by_salt: accounts.bytes_by_salt(),
            objects_locked: self.locks.locked(),
            is_complete: false,
        }
    }

    fn health(&self) -> Health {
        let options = &self.shared.dialect.options;
        let health = if self.check_open().is_err() {
            Health::because(HealthState::Closed, "adapter is closed")
        } else if let Some(failure) = self.shared.last_failure() {
            Health::because(HealthState::Unavailable, failure.to_string())
        } else {
            Health::ready()
        };
        let nodes: Vec<String> = options.nodes.iter().map(ToString::to_string).collect();
        health
            .detail("nodes", nodes)
            .detail("cluster_mode", options.is_cluster)
            .detail("key_prefix", options.key_prefix.clone())
            .detail("num_workers", options.workers)
            .detail("queued_transfers", self.transfers.queued())
    }

    fn close(&self) -> AdapterFuture<'_, ()> {
        Box::pin(async move {
            self.is_closed.store(true, Ordering::Release);
            self.transfers.close().await;
            self.control.close().await;
        })
    }
}
