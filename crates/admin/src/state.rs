//! What the routes look at.

use std::sync::Arc;

use axum::extract::FromRef;
use larder_config::json::Resolved;
use larder_config::{Live, ServerConfig};
use larder_core::hash::ChunkHasher;
use larder_engine::upkeep::Preparation;
use larder_engine::{Operator, QuotaTable};
use larder_rpc::{Endpoint, RpcStats};
use larder_telemetry::BuildInfo;
use larder_telemetry::tasks::Tasks;
use larder_tier::Tier;

use super::effects::Effects;
use super::plugins::Plugins;
use super::serve::HttpStats;

/// Everything that some route looks at; most take a part of it.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Which build this is.
    pub build: BuildInfo,
    /// The cache.
    pub engine: Operator,
    /// The configuration, its history, and changes of it.
    pub live: Arc<Live>,
    /// What of it is only known once memory is prepared.
    pub resolved: Arc<Resolved>,
    /// What carries changes out.
    pub effects: Effects,
    /// The connections of this API.
    pub http: Arc<HttpStats>,
    /// Where engines are served.
    pub endpoints: Arc<[Endpoint]>,
    /// The RPC front's counters.
    pub rpc: Arc<RpcStats>,
    /// Background work.
    pub tasks: Tasks,
    /// The pool's preparation.
    pub preparation: Arc<Preparation>,
    /// Names chunks, for prompts that operators give.
    pub hasher: ChunkHasher,
    /// The second tier.
    pub tier: Arc<Tier>,
    /// Who may have how much.
    pub quotas: Arc<QuotaTable>,
    /// The runtime plugins.
    pub plugins: Plugins,
}

impl Admin {
    /// The configuration now.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        self.live.config()
    }
}

/// Lets a route take one field alone.
macro_rules! parts {
    ($($field:ident: $part:ty),+ $(,)?) => {$(
        impl FromRef<Admin> for $part {
            fn from_ref(admin: &Admin) -> Self {
                admin.$field.clone()
            }
        }
    )+};
}

parts! {
    build: BuildInfo,
    engine: Operator,
    live: Arc<Live>,
    plugins: Plugins,
    rpc: Arc<RpcStats>,
    tasks: Tasks,
    tier: Arc<Tier>,
}
