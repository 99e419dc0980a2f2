//! What one thread keeps open, and how it finds the server for a key.

use std::io;
use std::sync::{Arc, Mutex};

use larder_core::key::ObjectKey;

use super::cluster::{SlotMap, slot};
use super::command::Command;
use super::commands::{Answer, Dialect};
use super::connection::Connection;
use super::options::Node;
use super::reply::{Redirect, Reply};
use crate::adapter::KeyResult;
use crate::adapters::link::Link;
use crate::adapters::quote::quote;
use crate::error::{Error, Failure, FailureKind};
use crate::mutex::lock;

/// Connections one thread keeps, more than a cluster ought to have servers; for one more, the one asked
/// longest ago is closed and dropped.
const CONNECTIONS_MAX: usize = 256;

/// Times a key is followed to another server before it counts as lost.
const REDIRECTS_MAX: usize = 5;

/// What all threads of one adapter know together.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) dialect: Dialect,
    pub(super) link: Link,
    slots: Mutex<Arc<SlotMap>>,
}

impl Shared {
    pub(super) fn new(dialect: Dialect) -> Result<Self, Failure> {
        let options = &dialect.options;
        let link = Link::new(options.tls.as_ref(), options.connect_timeout_ms, options.request_timeout_ms)?;
        Ok(Self { dialect, link, slots: Mutex::default() })
    }

    pub(super) fn slots(&self) -> Arc<SlotMap> {
        lock(&self.slots).clone()
    }
}

/// The connections of one thread.
#[derive(Debug)]
pub(super) struct Session {
    shared: Arc<Shared>,
    connections: Vec<(Node, Connection)>,
}

impl Session {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, connections: Vec::new() }
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Has each item dealt with by the server that keeps its key. Items of one server travel together.
    pub(super) fn run<I, T>(
        &mut self,
        items: &[&I],
        key: impl Fn(&I) -> &ObjectKey,
        exchange: impl Fn(&Dialect, &mut Connection, &Node, &[&I], bool) -> io::Result<Vec<Answer<T>>>,
    ) -> Vec<KeyResult<T>> {
        let lost = || Err(Failure::retryable(FailureKind::Unavailable, "no server keeps the key").into());
        let mut results: Vec<KeyResult<T>> = items.iter().map(|_| lost()).collect();
        let mut pending: Vec<(usize, Option<Redirect>)> =
            (0..items.len()).map(|index| (index, None)).collect();
        for _ in 0..REDIRECTS_MAX {
            for (node, is_asking, indices) in
                self.groups(&mut results, std::mem::take(&mut pending), items, &key)
            {
                let group: Vec<&I> = indices.iter().map(|index| items[*index]).collect();
                let shared = Arc::clone(&self.shared);
                let exchanged = self.with(&node, |connection| {
                    exchange(&shared.dialect, connection, &node, &group, is_asking)
                });
                match exchanged {
                    Ok(answers) => {
                        for (index, answer) in indices.into_iter().zip(answers) {
                            match answer {
                                Answer::Done(result) => results[index] = result,
                                // To follow it would be to show our password to whomever the server names.
                                Answer::Elsewhere(_) if !shared.dialect.options.is_cluster => {
                                    results[index] = Err(part_of_cluster(&node).into());
                                }
                                Answer::Elsewhere(redirect) => pending.push((index, Some(redirect))),
                            }
                        }
                    }
                    Err(failure) => {
                        indices
                            .into_iter()
                            .for_each(|index| results[index] = Err(Error::Failed(failure.clone())));
                    }
                }
            }
            if pending.is_empty() {
                break;
            }
            if pending.iter().any(|(_, redirect)| matches!(redirect, Some(Redirect::Moved(_)))) {
                self.forget_slots();
            }
        }
        results
    }

    /// Items by server, in the order they came.
    fn groups<I, T>(
        &mut self,
        results: &mut [KeyResult<T>],
        pending: Vec<(usize, Option<Redirect>)>,
        items: &[&I],
        key: &impl Fn(&I) -> &ObjectKey,
    ) -> Vec<(Node, bool, Vec<usize>)> {
        let mut groups: Vec<(Node, bool, Vec<usize>)> = Vec::new();
        for (index, redirect) in pending {
            let (node, is_asking) = match redirect {
                Some(Redirect::Moved(node)) => (node, false),
                Some(Redirect::Ask(node)) => (node, true),
                None => match self.home(key(items[index])) {
                    Ok(node) => (node, false),
                    Err(failure) => {
                        results[index] = Err(failure.into());
                        continue;
                    }
                },
            };
            match groups.iter_mut().find(|(known, asking, _)| *known == node && *asking == is_asking) {
                Some((.., indices)) => indices.push(index),
                None => groups.push((node, is_asking, vec![index])),
            }
        }
        groups
    }

    fn home(&mut self, key: &ObjectKey) -> Result<Node, Failure> {
        let options = &self.shared.dialect.options;
        if !options.is_cluster {
            return Ok(options.nodes[0].clone());
        }
        let slot = slot(&self.shared.dialect.name(key));
        if let Some(node) = self.shared.slots().node(slot) {
            return Ok(node.clone());
        }
        let slots = self.learn_slots()?;
        let uncovered = || Failure::retryable(FailureKind::Unavailable, format!("slot {slot} has no server"));
        slots.node(slot).cloned().ok_or_else(uncovered)
    }

    /// Asks servers, the configured ones and those known, until one tells.
    pub(super) fn learn_slots(&mut self) -> Result<Arc<SlotMap>, Failure> {
        let mut nodes = self.shared.dialect.options.nodes.clone();
        nodes.extend(self.shared.slots().nodes());
        let mut last = Failure::permanent(FailureKind::Invalid, "no server is configured");
        for node in nodes {
            let asked = self.with(&node, |connection| {
                connection.send(&Command::new("CLUSTER").arg("SLOTS").encode())?;
                connection.reply()
            });
            match asked {
                Ok(Reply::Error(error)) => {
                    let text = format!("server `{node}` is no cluster: `{}`", quote(&error));
                    last = Failure::permanent(FailureKind::Io, text);
                }
                Ok(reply) => match SlotMap::read(&reply, &node) {
                    Some(slots) => {
                        let slots = Arc::new(slots);
                        *lock(&self.shared.slots) = Arc::clone(&slots);
                        return Ok(slots);
                    }
                    None => {
                        let text = format!("server `{node}` describes its cluster as `{}`", reply.summary());
                        last = Failure::permanent(FailureKind::Io, text);
                    }
                },
                Err(failure) => last = failure,
            }
        }
        Err(last)
    }

    fn forget_slots(&self) {
        *lock(&self.shared.slots) = Arc::default();
    }

    /// Exchanges something with one server. A connection that fails is dropped: what it would say next is
    /// unknown.
    pub(super) fn with<T>(
        &mut self,
        node: &Node,
        exchange: impl FnOnce(&mut Connection) -> io::Result<T>,
    ) -> Result<T, Failure> {
        let options = &self.shared.dialect.options;
        let known = self.connections.iter().position(|(known, _)| known == node);
        let kept = known.map(|position| self.connections.remove(position).1);
        let mut connection = match kept.filter(|connection| !connection.is_stale()) {
            Some(connection) => connection,
            None => Connection::open(node, &self.shared.link.connector, options)
                .map_err(|error| self.fail("connect to", node, &error))?,
        };
        connection.begin();
        let result = exchange(&mut connection).map_err(|error| self.fail("talk to", node, &error))?;
        if self.connections.len() >= CONNECTIONS_MAX {
            self.connections.remove(0);
        }
        self.connections.push((node.clone(), connection));
        self.shared.link.note(None);
        Ok(result)
    }

    fn fail(&self, attempt: &str, node: &Node, error: &io::Error) -> Failure {
        let failure = Failure::io(format!("{attempt} `{node}`"), error);
        self.shared.link.note(Some(&failure));
        if self.shared.dialect.options.is_cluster {
            // The server may be gone for good; the others know who took over.
            self.forget_slots();
        }
        failure
    }
}

fn part_of_cluster(node: &Node) -> Failure {
    let text =
        format!("server `{node}` is part of a cluster\nhint: use `valkey` with `\"cluster_mode\": true`");
    Failure::permanent(FailureKind::Refused, text)
}
