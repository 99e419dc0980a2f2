//! What every adapter must do, as a suite any adapter can be run through, and a double for testing its
//! callers.
//!
//! Made to be used from tests, here and by whoever writes an adapter elsewhere: the checks panic with what
//! they expected.

mod checks;
mod double;
mod fixtures;
mod suite;

pub use double::FailingAdapter;
pub use fixtures::{load_items, object_bytes, object_key, store_items};
pub use suite::run;
