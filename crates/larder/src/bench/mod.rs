//! `larder bench`: measurements that need no server and no engine; today, eviction policies on traces.

mod background;
mod command;
mod dice;
mod numbers;
mod offline;
mod peer;
mod policy;
mod readers;
mod replay;
mod score;
mod synthetic;
mod trace;

#[cfg(test)]
mod tests;

pub(crate) use command::{command, run};
