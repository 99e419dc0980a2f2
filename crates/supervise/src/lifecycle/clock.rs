//! The local time, from outside, so that tests need not wait for it.

use std::fmt::Debug;

use jiff::Zoned;

/// Tells the local time.
pub trait Clock: Debug + Send + Sync {
    /// The present moment in the zone that calendar times are meant in.
    fn now(&self) -> Zoned;
}

/// The system's clock and time zone.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Zoned {
        Zoned::now()
    }
}
