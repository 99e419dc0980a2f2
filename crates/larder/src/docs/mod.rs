//! The generated reference pages.

mod pages;

pub(crate) use pages::pages;
