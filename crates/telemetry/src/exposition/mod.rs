//! The Prometheus text format as others write it: read leniently, written anew, merged.

mod merge;
mod sample;

pub use merge::{LINE_MAX_BYTES, Merged, Offer, SERIES_MAX, merge};
pub use sample::{Number, declaration, push_label, series_and_value};
