//! Which parts of a document are credentials: the rule that plugins are masked by holds for whatever this
//! server shows.

pub use larder_supervise::redaction::{REDACTED, is_redacted, is_secret, redact, redacted};
