//! Answers that are not a success, in the peer's two shapes (`spec/http-api.md` 1).

use serde::{Deserialize, Serialize};

/// The shape of most routes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detail {
    /// What is wrong, and a `hint:` line where the caller can do something.
    pub detail: String,
}

/// The shape of `/quota`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    /// What is wrong.
    pub error: String,
}
