//! The body of `/status`, key by key as the peer's (`spec/http-api.md` 2).

mod host;
mod node;
mod storage;

pub(super) use node::show;
