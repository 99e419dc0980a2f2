//! The processes of workers: until one has ended it may write where it was told to, whatever became of its
//! connections.
//!
//! Nothing in a request tells the process. The one that holds the other end of the worker's connection and
//! has the pool mapped is taken for it. Of other workers, in another container or under another user, nothing
//! but their connections tell.

use std::sync::Arc;

use larder_pool::Mapper;

use crate::faces::Upkeep;
use crate::state::connections::ConnectionId;
use crate::state::processes::Process;

/// Most processes that are looked for at a time.
const LOOKS_MAX: usize = 16;

impl Upkeep {
    /// Workers whose process is to be looked for, each with the connection behind which it is. A worker is
    /// named once for each connection, when it has begun to transfer: it has mapped the pool by then.
    #[must_use]
    pub fn unknown_processes(&self) -> Vec<(i64, ConnectionId)> {
        if self.pool.name().is_none() {
            return Vec::new();
        }
        let mut state = self.state();
        let unknown = state.instances.iter_mut().filter_map(|(id, instance)| {
            let connection = instance.connections.back().copied();
            let is_unknown = instance.process.is_none() && instance.rank.is_some() && !instance.sends_bytes;
            if !is_unknown || connection.is_none() || instance.looked_behind == connection {
                return None;
            }
            instance.looked_behind = connection;
            connection.map(|connection| (id, connection))
        });
        unknown.take(LOOKS_MAX).collect()
    }

    /// Notes the process of a worker, if only one of the `candidates` behind its connection has the pool
    /// mapped. Reads what they have mapped.
    pub fn find_process(&self, instance_id: i64, connection: ConnectionId, candidates: &[u32]) {
        let others = candidates.iter().filter(|&&pid| pid != std::process::id());
        let mut found = others.filter_map(|&pid| Mapper::find(&self.pool, pid));
        let (Some(process), None) = (found.next(), found.next()) else { return };
        tracing::info!("instance {instance_id} is process {}", process.pid());
        self.learn_process(instance_id, connection, Arc::new(process));
    }

    /// Notes the process of a worker, unless it has one or has left the connection.
    pub(crate) fn learn_process(&self, instance_id: i64, connection: ConnectionId, process: Process) {
        if let Some(instance) = self.state().instances.get_mut(instance_id)
            && instance.connections.contains(&connection)
        {
            instance.process.get_or_insert(process);
        }
    }
}
