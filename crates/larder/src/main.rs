//! The `larder` binary: command line and composition root.

fn main() {}
