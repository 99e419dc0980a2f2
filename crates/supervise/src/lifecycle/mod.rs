//! The life of one plugin as a pure machine, and the calendar it may live by. Performs nothing.

mod alarm;
mod clock;
mod machine;
mod phase;

pub(crate) use self::alarm::{Alarm, CLOCK_CHECK_AFTER};
pub use self::clock::{Clock, SystemClock};
pub(crate) use self::machine::Lifecycle;
pub(crate) use self::phase::{Action, Event};
pub use self::phase::{FailCause, Next, Phase};
