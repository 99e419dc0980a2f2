//! Signatures, version 4, with unsigned payloads: objects are not read twice, and are checked end to end
//! anyway.

use std::fmt::Write as _;
use std::time::SystemTime;

use base16ct::lower::encode_string;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode as encoded};
use sha2::{Digest as _, Sha256};

use super::options::S3Options;

/// What is encoded: all but unreserved characters, and in a path but what separates its segments.
const IN_QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const IN_PATH: &AsciiSet = &IN_QUERY.remove(b'/');

/// A request before it is signed.
#[derive(Clone, Debug, Default)]
pub(super) struct Request {
    pub(super) method: &'static str,
    /// Unencoded, from the first `/` on.
    pub(super) path: String,
    /// Unencoded names and values.
    pub(super) query: Vec<(String, String)>,
    /// Lowercase names; `host` and those of the signature are added.
    pub(super) headers: Vec<(&'static str, String)>,
}

impl Request {
    /// Path and query as the request line carries them.
    pub(super) fn target(&self) -> String {
        let path = encoded(&self.path, IN_PATH);
        if self.query.is_empty() { path.to_string() } else { format!("{path}?{}", self.canonical_query()) }
    }

    fn canonical_query(&self) -> String {
        let mut pairs: Vec<String> = self
            .query
            .iter()
            .map(|(name, value)| format!("{}={}", encoded(name, IN_QUERY), encoded(value, IN_QUERY)))
            .collect();
        pairs.sort();
        pairs.join("&")
    }
}

/// All headers of a request, its signature included.
pub(super) fn signed_headers(
    request: &Request,
    options: &S3Options,
    payload_hash: &str,
    now: SystemTime,
) -> Vec<(&'static str, String)> {
    let credentials = &options.credentials;
    let stamp = timestamp(now);
    let mut headers = request.headers.clone();
    headers.push(("host", options.authority()));
    headers.push(("x-amz-content-sha256", payload_hash.to_owned()));
    headers.push(("x-amz-date", stamp.clone()));
    if !credentials.session_token.is_empty() {
        headers.push(("x-amz-security-token", credentials.session_token.expose().to_owned()));
    }
    headers.sort();
    let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let mut canonical =
        format!("{}\n{}\n{}\n", request.method, encoded(&request.path, IN_PATH), request.canonical_query());
    for (name, value) in &headers {
        _ = writeln!(canonical, "{name}:{}", value.trim());
    }
    _ = write!(canonical, "\n{names}\n{payload_hash}");
    let day = &stamp[..8];
    let scope = format!("{day}/{}/s3/aws4_request", options.region);
    let text = format!("AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{}", encode_string(&Sha256::digest(&canonical)));
    let secret = format!("AWS4{}", credentials.secret_access_key.expose());
    let steps = [day, &options.region, "s3", "aws4_request", &text];
    let signature = steps.into_iter().fold(secret.into_bytes(), |key, step| mac(&key, step.as_bytes()));
    let id = &credentials.access_key_id;
    let signature = encode_string(&signature);
    headers.push((
        "authorization",
        format!("AWS4-HMAC-SHA256 Credential={id}/{scope}, SignedHeaders={names}, Signature={signature}"),
    ));
    headers
}

fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
    // A key of any length is a key.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return Vec::new() };
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

/// `YYYYMMDDThhmmssZ`.
fn timestamp(now: SystemTime) -> String {
    Timestamp::try_from(now).unwrap_or_default().strftime("%Y%m%dT%H%M%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::adapters::s3::Credentials;
    use crate::secret::Secret;

    /// The "GET Object" example of Amazon's documentation of the signature.
    #[test]
    fn the_documented_example_is_signed_as_documented() {
        let credentials = Credentials {
            access_key_id: "AKIAIOSFODNN7EXAMPLE".into(),
            secret_access_key: Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
            session_token: Secret::default(),
        };
        let options = S3Options::new("examplebucket.s3.amazonaws.com", "us-east-1", credentials);
        let request = Request {
            method: "GET",
            path: "/test.txt".into(),
            headers: vec![("range", "bytes=0-9".into())],
            ..Request::default()
        };
        let empty = encode_string(&Sha256::digest(b""));
        let now = UNIX_EPOCH + Duration::from_secs(1_369_353_600);
        let headers = signed_headers(&request, &options, &empty, now);
        let authorization = &headers.iter().find(|(name, _)| *name == "authorization").unwrap().1;
        let signature = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41";
        assert!(authorization.ends_with(&format!("Signature={signature}")), "{authorization}");
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, stamp) in [
            (0, "19700101T000000Z"),
            (951_868_799, "20000229T235959Z"),
            (951_868_800, "20000301T000000Z"),
            (1_369_353_600, "20130524T000000Z"),
            (1_767_225_600, "20260101T000000Z"),
        ] {
            assert_eq!(timestamp(UNIX_EPOCH + Duration::from_secs(seconds)), stamp);
        }
    }

    #[test]
    fn targets_are_encoded_and_sorted() {
        let request = Request {
            path: "/org/m@1 ü".into(),
            query: vec![("b".into(), "x/y".into()), ("a".into(), String::new())],
            ..Request::default()
        };
        assert_eq!(request.target(), "/org/m%401%20%C3%BC?a=&b=x%2Fy");
    }
}
