//! The life of one plugin as a pure machine, and the calendar it may live by. Performs nothing.

mod alarm;
mod machine;
mod phase;

pub(crate) use self::alarm::{Alarm, CLOCK_CHECK_AFTER};
pub(crate) use self::machine::Lifecycle;
pub(crate) use self::phase::{Action, Event};
pub use self::phase::{FailCause, Next, Phase};
