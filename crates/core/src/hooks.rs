//! The points at which plugins may advise the engine, by the names that manifests have for them.

/// What is written to the second tier.
pub const ADMISSION: &str = "admission";
/// What leaves memory first, and what last.
pub const EVICTION: &str = "eviction";
/// All of them.
pub const HOOKS: &[&str] = &[ADMISSION, EVICTION];
