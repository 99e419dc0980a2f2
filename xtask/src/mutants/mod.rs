//! `cargo xtask mutants`: changes the code in small ways and sees whether the tests notice.
//!
//! cargo-mutants does the changing. What survives is either a hole in the tests or the same program in other
//! words, which `xtask/equivalent-mutants.toml` lists with the reason.

mod options;
mod outcomes;
mod run;
mod tool;

pub(crate) use run::run;
