//! Which files are plugins, and what they are run with. Runs nothing.

pub(crate) mod discovery;
mod eligibility;
mod ignore;
pub(crate) mod interpreter;
mod location;
mod shebang;
pub(crate) mod trust;

pub(crate) use self::discovery::Survey;
pub use self::discovery::{Discovery, SkipReason, Skipped, discover};
pub use self::eligibility::{Host, Role};
pub use self::interpreter::{Interpreters, choose as choose_interpreter};
pub(crate) use self::interpreter::{Invocation, is_executable};
pub(crate) use self::location::{Location, Progress};
pub use self::trust::WritableByOthers;
