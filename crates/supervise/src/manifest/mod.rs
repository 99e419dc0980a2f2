//! What a plugin's manifest can ask for, and how it is read. Starts nothing.

mod confinement;
mod cron;
mod document;
mod keys;
mod policy;
mod read;
pub(crate) mod schema;

pub(crate) use self::confinement::Account;
pub use self::confinement::{Confinement, IoClass, Limits};
pub use self::cron::{Cron, CronError};
pub use self::document::manifest_schema;
pub use self::policy::{Policy, Restart, StopSignal};
pub use self::read::{
    DefaultsError, EffectiveManifest, Manifest, ManifestError, Readiness, Watchdog, WatchdogAction,
};
pub use self::schema::{Misfit, Schema};
