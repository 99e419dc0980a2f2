//! `cargo xtask tidy`: the invariants of ARCHITECTURE.md and STYLE.md that a program can check.
//!
//! Every finding is one line, `<file>:<line>: <what>`; all findings are printed before the command fails.

mod circles;
mod documents;
mod edges;
mod files;
mod licences;
mod limits;
mod modules;
mod purity;
mod run;
mod shape;
mod source;
mod texts;

pub(crate) use run::run;
