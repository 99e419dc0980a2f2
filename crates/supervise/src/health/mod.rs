//! How a run tells, or is asked, whether it is ready and alive.

mod notify;
pub(crate) mod probe;
mod senses;

pub(crate) use self::notify::Notice;
pub(crate) use self::probe::Stamp;
pub(crate) use self::senses::Senses;
