//! What `/metrics` says. Names and labels are the peer's where it has the number (`spec/http-api.md` 3); the
//! rest begins with `larder_`.

mod engine;
mod l1;
mod l2;
mod l2_flow;
mod lifetimes;
mod lookups;
mod plugins;
mod process;
mod rpc;
mod scrape;
mod text;

pub(super) use scrape::scrape;
