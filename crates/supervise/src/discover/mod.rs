//! Which files are plugins, and what they are run with. Runs nothing.

pub(crate) mod discovery;
mod eligibility;
mod ignore;
pub(crate) mod interpreter;
mod location;
mod shebang;
mod skipped;
pub(crate) mod survey;
pub(crate) mod trust;

pub use self::discovery::{Discovery, discover};
pub use self::eligibility::{Host, Role};
pub use self::interpreter::{Interpreters, choose as choose_interpreter};
pub(crate) use self::interpreter::{Invocation, is_executable};
pub(crate) use self::location::{Location, Progress};
pub use self::skipped::{SkipReason, Skipped};
pub(crate) use self::survey::Survey;
pub use self::trust::WritableByOthers;
