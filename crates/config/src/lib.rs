//! Configuration of the server: one table of flags, four layers, one typed result.
//!
//! [`flags`] is the only list of settings. It feeds the parser (`command`), the layers (`file`,
//! `environment`; merged in `settings`), the checks (`check`), changes at run time ([`live`]), `config show`
//! ([`show`]) and the reference pages ([`reference`]). What is checked becomes the typed result (`model`) in
//! `build`. Nothing here starts anything or knows how a setting is used.

// Tests count small things and may cast them.
#![cfg_attr(
    not(test),
    warn(
        clippy::cast_lossless,
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss
    )
)]

mod adapters;
mod build;
mod check;
mod command;
mod environment;
mod file;
pub mod flag;
pub mod flags;
pub mod json;
pub mod live;
mod load;
mod mistake;
mod model;
mod notice;
mod plugins;
mod quotas;
pub mod reference;
mod settings;
pub mod show;
mod source;
mod spelling;
mod value;

pub use command::{flags_beginning_with, list_server_flags, with_server_flags};
pub use environment::{Environment, process_environment};
pub use file::FILE_BYTES_MAX;
pub use live::Live;
pub use load::{Loaded, load};
pub use mistake::{InvalidConfig, Mistake};
pub use model::{
    CoordinatorConfig, EngineType, EvictionConfig, GcMonitorConfig, HttpConfig, L1Config, L2Config,
    LookupHashLogConfig, MpConfig, ObservabilityConfig, P2pConfig, PluginsConfig, ServerConfig, SharedMemory,
    TransferMode,
};
pub use notice::Notice;
pub use settings::{Setting, Settings};
pub use source::Source;
pub use value::{Unfit, Value};
