//! Which objects leave first: one [trait](Policy), one file per policy.

mod arc;
mod by_name;
mod ghosts;
mod isolated_lru;
mod list;
mod lru;
mod noop;
mod per_tenant;
mod policy;
mod prefix_arc;
mod prefix_ghosts;
mod s3fifo;
mod tenant_lists;

pub use arc::Arc;
pub use by_name::{KINDS, NAMES, PolicyKind, by_name};
pub use isolated_lru::IsolatedLru;
pub use lru::Lru;
pub use noop::Noop;
pub use per_tenant::PerTenant;
pub use policy::{Arrival, EntryId, Policy, Removal, TenantId};
pub use prefix_arc::PrefixArc;
pub use s3fifo::S3Fifo;
