//! The domain of the cache, pure: keys, hashing, layouts, object lifecycle, eviction, the log of KV events.
//!
//! Nothing here does I/O, reads a clock, spawns or waits. Time is an argument in milliseconds of the caller's
//! clock; what is to be done is returned. That makes every rule of the cache testable against a model of a
//! few lines.

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

pub mod admission;
pub mod arena;
pub mod cache;
pub mod dtype;
pub mod eviction;
pub mod fold;
pub mod hash;
pub mod hooks;
pub mod interner;
pub mod key;
pub mod kv_events;
pub mod layout;
pub mod lease;
pub mod modes;
pub mod name;
pub mod quota;
pub mod units;
