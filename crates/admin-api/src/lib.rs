//! The bodies of the admin HTTP API (`spec/http-api.md`), as the server writes them and its clients read
//! them.
//!
//! The order of fields is the order of keys in a body: the peer's first, then ours. What a server of
//! another version leaves out of an answer is read as its default. Types only: who may ask, and what an
//! answer is made of, is the server's.

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

pub mod adapters;
pub mod cache;
pub mod config;
pub mod errors;
pub mod health;
pub mod leases;
pub mod node;
pub mod path;
pub mod plugins;
pub mod quotas;
pub mod storage;
pub mod streams;

use std::borrow::Cow;

pub use indexmap::IndexMap;

/// A word of a fixed set, such as a state: a constant where it is written, a text where it is read.
pub type Word = Cow<'static, str>;
