//! The reference pages that are made from the tables of the binary: flags, commands, events.

mod pages;

pub(crate) use pages::pages;
