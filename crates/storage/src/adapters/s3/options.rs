//! Which bucket, as whom, and how.

use larder_core::key::ObjectKey;

use crate::adapters::TlsOptions;
use crate::error::{Failure, FailureKind};
use crate::names::wire_name;
use crate::secret::Secret;

/// Smallest part a store takes in a multipart upload, other than the last.
pub(super) const PART_BYTES_MIN: usize = 5 << 20;
/// Most parts of one upload.
pub(super) const PARTS_MAX: usize = 10_000;

/// Longest name of an object.
const NAME_BYTES_MAX: usize = 1024;

/// A bucket and the way it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Options {
    /// Host of the requests; with virtual-hosted addressing it starts with the bucket's name.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Bucket to put first in the path; none with virtual-hosted addressing.
    pub bucket: Option<String>,
    /// Region to sign for.
    pub region: String,
    /// Encryption; none for plain connections.
    pub tls: Option<TlsOptions>,
    /// Whom to sign as.
    pub credentials: Credentials,
    /// Put before every name, with `/` between; empty for nothing.
    pub key_prefix: String,
    /// Whether a tenant's objects have its salt as a further prefix, so that access and expiry can be set by
    /// tenant.
    pub is_prefixed_by_salt: bool,
    /// Bytes moved per request: larger objects are uploaded in parts and fetched in ranges.
    pub part_bytes: usize,
    /// Threads that move objects; each has its own connection.
    pub workers: usize,
    /// Transfers waiting for a thread, in objects; more are answered busy.
    pub queued_jobs_max: usize,
    /// Longest time without any progress on a connection, in milliseconds.
    pub request_timeout_ms: u64,
    /// Longest time to connect, in milliseconds.
    pub connect_timeout_ms: u64,
    /// The most the objects shall take, for the controller that evicts; none for no limit.
    pub capacity_bytes: Option<u64>,
}

/// An access key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// Its public part.
    pub access_key_id: String,
    /// Its secret part.
    pub secret_access_key: Secret,
    /// The token of temporary credentials; empty for lasting ones.
    pub session_token: Secret,
}

impl S3Options {
    /// A bucket by virtual-hosted address over TLS, used as the peer uses it.
    #[must_use]
    pub fn new(host: impl Into<String>, region: impl Into<String>, credentials: Credentials) -> Self {
        Self {
            host: host.into(),
            port: 443,
            bucket: None,
            region: region.into(),
            tls: Some(TlsOptions::default()),
            credentials,
            key_prefix: String::new(),
            is_prefixed_by_salt: false,
            part_bytes: 16 << 20,
            workers: 16,
            queued_jobs_max: 16_384,
            request_timeout_ms: 10_000,
            connect_timeout_ms: 10_000,
            capacity_bytes: None,
        }
    }

    /// `[<prefix>/][<salt>/]<wire name>`; the tenant's part only where it is asked for.
    ///
    /// Fails for a name that no store takes: too long, or with a part that a path means something else by.
    pub(super) fn object_name(&self, key: &ObjectKey) -> Result<String, Failure> {
        let mut name = self.name_prefix();
        let salt = key.namespace.cache_salt();
        if self.is_prefixed_by_salt && !salt.is_empty() {
            name.push_str(salt);
            name.push('/');
        }
        name.push_str(&wire_name(key));
        let is_strange = name.split('/').any(|part| matches!(part, "." | ".."));
        if name.len() > NAME_BYTES_MAX || is_strange {
            let text = format!(
                "object name of {} bytes of model `{}` is longer than {NAME_BYTES_MAX} or has a part `.` or `..`",
                name.len(),
                key.namespace.model_name().escape_debug()
            );
            return Err(Failure::permanent(FailureKind::Invalid, text));
        }
        Ok(name)
    }

    /// What every name starts with.
    pub(super) fn name_prefix(&self) -> String {
        let prefix = self.key_prefix.trim_matches('/');
        if prefix.is_empty() { String::new() } else { format!("{prefix}/") }
    }

    /// The `Host` of a request: the port only where it is not the scheme's own.
    pub(super) fn authority(&self) -> String {
        let usual = if self.tls.is_some() { 443 } else { 80 };
        if self.port == usual { self.host.clone() } else { format!("{}:{}", self.host, self.port) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_store_takes_are_refused_before_it_is_asked() {
        let options = S3Options::new("h", "r", Credentials::default());
        let name = |model: &str, salt: &str| {
            let options = S3Options { is_prefixed_by_salt: true, ..options.clone() };
            options.object_name(&ObjectKey::new([1; 32], model, 0, 0, salt).unwrap())
        };
        assert!(name("org/model", "tenant").is_ok() && name("m..", ".a").is_ok());
        for (model, salt) in [("../m", ""), ("a/./m", ""), ("m", "..")] {
            assert_eq!(name(model, salt).unwrap_err().kind, FailureKind::Invalid, "{model} {salt}");
        }
        let long = S3Options { key_prefix: "p".repeat(900), ..options.clone() };
        let key = |model: &str| ObjectKey::new([1; 32], model, 0, 0, "").unwrap();
        assert!(long.object_name(&key("m")).is_ok());
        assert_eq!(long.object_name(&key(&"m".repeat(200))).unwrap_err().kind, FailureKind::Invalid);
    }
}
