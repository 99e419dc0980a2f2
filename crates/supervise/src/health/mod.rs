//! How a run tells, or is asked, whether it is ready and alive.

mod checks;
mod notify;
pub(crate) mod probe;

pub(crate) use self::checks::HealthChecks;
pub(crate) use self::notify::HealthSign;
pub(crate) use self::probe::Stamp;
