//! Who is there: registration, ping, and connections that come and go (`spec/cache-semantics.md` 7).

use std::sync::Arc;

use larder_core::layout::{EngineGeometry, ObjectLayout};

use crate::error::EngineError;
use crate::faces::Requests;
use crate::state::connections::ConnectionId;
use crate::state::held::HELD_MS;
use crate::state::instances::Registered;
use crate::state::processes::{ORPHAN_GRACE_MS, Orphaned};
use crate::state::registration::Registration;
use larder_telemetry::events::Event;

/// What a worker may still touch whose connection the server closed: its process lives, and its socket
/// connects again, but it may say nothing before its copy is done.
const EXPELLED_GRACE_MS: u64 = HELD_MS;

/// What a worker says of its cache when it registers (`spec/mp-protocol.md` 3.3).
#[derive(Clone, Copy, Debug)]
pub struct Geometry<'a> {
    /// Tokens per block of the engine's cache.
    pub block_size: u32,
    /// torch name of the element type.
    pub dtype: &'a str,
    /// What one chunk of this worker is made of.
    pub chunk: EngineGeometry,
}

impl Requests {
    /// Registers a worker, or refreshes one that is registered the same way.
    ///
    /// # Errors
    /// [`EngineError::Key`] and [`EngineError::Layout`] for a registration that can't
    /// describe objects, [`EngineError::TooManyInstances`], [`EngineError::TooManyLayouts`] and
    /// [`EngineError::TooManyLeftovers`] when a table is full.
    pub fn register(
        &self,
        instance_id: i64,
        model_name: &str,
        world_size: u32,
        geometry: Geometry<'_>,
        connection: ConnectionId,
    ) -> Result<(), EngineError> {
        larder_core::key::check_key(model_name, world_size, None)?;
        let layout = Arc::new(ObjectLayout::engine_driven(geometry.chunk, geometry.dtype.parse()?)?);
        let registration = Registration {
            model_name: model_name.into(),
            world_size,
            block_size: geometry.block_size,
            use_mla: geometry.chunk.mla,
            layout,
        };
        let now_ms = self.now_ms();
        let mut state = self.state();
        if !state.set_aside.has_room(connection) {
            return Err(EngineError::TooManyLeftovers(instance_id));
        }
        let connection = state.last_seen.note(connection, now_ms).then_some(connection);
        match state.instances.register(instance_id, registration, connection, now_ms)? {
            Registered::New => {
                self.bus.publish(|| Event::Instance { instance_id, change: "registered", model_name });
                tracing::info!(
                    "registered instance {instance_id} of model `{model_name}`, world size {world_size}"
                );
            }
            Registered::Refreshed => {}
            Registered::Replaced(mut before) => {
                state.set_aside.add(instance_id, &mut before);
                tracing::info!("instance {instance_id} registered again: what it was before is over");
            }
            Registered::Refused => return Err(EngineError::TooManyInstances(instance_id)),
        }
        self.wake_sweep.notify_one();
        Ok(())
    }

    /// Removes a worker. What it was writing is never published, and stays its own until it is gone: the real
    /// client unregisters before its copies have ended.
    pub fn unregister(&self, instance_id: i64, connection: ConnectionId) {
        let now_ms = self.now_ms();
        let mut state = self.state();
        let connection = state.last_seen.note(connection, now_ms).then_some(connection);
        // It may have connected again without a word until now.
        _ = state.instances.note_alive(instance_id, connection, now_ms);
        if let Some(mut instance) = state.instances.unregister(instance_id) {
            state.set_aside.add(instance_id, &mut instance);
            self.wake_sweep.notify_one();
            self.bus.publish(|| Event::Instance { instance_id, change: "unregistered", model_name: "" });
            tracing::info!("unregistered instance {instance_id}");
        }
    }

    /// Notes that a worker lives. The first ping of a worker this server does not know is answered with
    /// false: an unmodified client then recovers by registering again.
    #[expect(clippy::must_use_candidate, reason = "what it does is what most callers want")]
    pub fn ping(&self, instance_id: Option<i64>, connection: ConnectionId) -> bool {
        let now_ms = self.now_ms();
        let mut state = self.state();
        let connection = state.last_seen.note(connection, now_ms).then_some(connection);
        let Some(instance_id) = instance_id else { return true };
        match state.instances.note_alive(instance_id, connection, now_ms) {
            Ok(instance) => {
                instance.pinged = true;
                true
            }
            Err(EngineError::UnknownInstance(_)) => !state.instances.tell_unknown(instance_id),
            Err(_) => true,
        }
    }

    /// Notes that a connection is open.
    pub fn connected(&self, connection: ConnectionId) {
        let now_ms = self.now_ms();
        self.state().last_seen.open(connection, now_ms);
    }

    /// Notes that a client has closed its connection. What it held is given back after a grace, unless the
    /// client reconnects.
    pub fn disconnected(&self, connection: ConnectionId) {
        self.end(connection, ORPHAN_GRACE_MS);
    }

    /// Notes that the server has closed a connection, whose client lives on: its worker may be in the middle
    /// of a copy.
    pub fn expelled(&self, connection: ConnectionId) {
        self.end(connection, EXPELLED_GRACE_MS);
    }

    fn end(&self, connection: ConnectionId, grace_ms: u64) {
        let now_ms = self.now_ms();
        let mut state = self.state();
        if state.last_seen.forget(connection) {
            let orphaned = Orphaned { since_ms: now_ms, grace_ms };
            state.instances.disconnected(connection, orphaned);
            state.set_aside.disconnected(connection, orphaned);
            state.sessions.orphan(connection, now_ms);
            self.wake_sweep.notify_one();
        }
    }
}
