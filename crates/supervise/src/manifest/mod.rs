//! What a plugin's manifest can ask for, and how it is read. Starts nothing.

mod apply;
mod confinement;
mod cron;
mod document;
mod error;
mod keys;
mod model;
mod policy;
mod read;
mod rules;
mod schema;

pub(crate) use self::confinement::Account;
pub use self::confinement::{CgroupLimits, Confinement, IoClass, Limits};
pub use self::cron::{Cron, CronError};
pub use self::document::manifest_schema;
pub use self::error::{DefaultsError, ManifestError};
pub use self::model::{EffectiveManifest, MANIFEST_SUFFIX, Manifest, Readiness, Watchdog, WatchdogAction};
pub use self::policy::{Outcome, Policy, Restart, StopSignal};
pub use self::schema::{Misfit, Schema};
