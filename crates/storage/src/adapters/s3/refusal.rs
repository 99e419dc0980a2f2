//! What an answer that is no success means to a caller, and what a person can do about it.

use super::response::Response;
use super::sign::Request;
use super::xml;
use crate::adapters::quote::quote;
use crate::error::{Failure, FailureKind};

/// Says where a bucket is that was asked for elsewhere.
const REGION_HEADER: &str = "x-amz-bucket-region";

/// What a status that is no success means; `text` is the body that came with it.
pub(super) fn refused(request: &Request, response: &Response, text: &str) -> Failure {
    let status = response.status;
    let code = quote(&xml::text(text, "Code").unwrap_or_default());
    let mut text = format!("{} `{}`: server answered {status}", request.method, request.path);
    if !code.is_empty() {
        text.push_str(&format!(" `{code}`"));
    }
    match (status, code.as_str()) {
        (507, _) | (_, "QuotaExceeded" | "XMinioStorageFull" | "ServiceQuotaExceededException") => {
            return Failure::permanent(FailureKind::Full, text);
        }
        (429 | 502..=504, _) | (_, "SlowDown") => {
            return Failure::retryable(FailureKind::Unavailable, text);
        }
        (408 | 500.., _) => return Failure::retryable(FailureKind::Io, text),
        _ => {}
    }
    match hint(response, &code) {
        Some(hint) => Failure::permanent(FailureKind::Refused, format!("{text}\nhint: {hint}")),
        None if status >= 400 => Failure::permanent(FailureKind::Invalid, text),
        None => Failure::permanent(FailureKind::Io, text),
    }
}

/// What to do about a refusal of us; none where it is the object that is refused. Some refusals of us have
/// the status of a bad request.
fn hint(response: &Response, code: &str) -> Option<String> {
    let hint = match (response.status, code) {
        (_, "ExpiredToken" | "TokenRefreshRequired" | "RequestExpired" | "InvalidToken") => {
            "the credentials are temporary and no longer good: attach the adapter anew with others"
        }
        (_, "RequestTimeTooSkewed") => "this machine's clock and the store's differ: set it right",
        (_, "NoSuchBucket") => "create the bucket, or check `s3_bucket` and `s3_endpoint`",
        (300..=399, _) | (_, "AuthorizationHeaderMalformed") => {
            let region = response
                .header(REGION_HEADER)
                .map(|region| format!(": the bucket is in `{}`", quote(region)));
            return Some(format!("check `s3_endpoint` and `s3_region`{}", region.unwrap_or_default()));
        }
        (401 | 403, _) => "check the credentials and what they may do in the bucket",
        _ => return None,
    };
    Some(hint.to_owned())
}

/// The failure of an exchange that succeeded with something else than what belongs there.
pub(super) fn unexpected(request: &Request, text: &str) -> Failure {
    let text = format!("{} `{}`: unexpected answer `{}`", request.method, request.path, quote(text));
    Failure::retryable(FailureKind::Io, text)
}

#[cfg(test)]
mod tests {
    use super::super::response::read_head;
    use super::*;

    fn failure(head: &str, body: &str) -> Failure {
        let response = read_head(&mut format!("HTTP/1.1 {head}\r\n\r\n").as_bytes(), true).unwrap();
        let request = Request { method: "GET", path: "/b/o".into(), ..Request::default() };
        refused(&request, &response, body)
    }

    #[test]
    fn refusals_of_us_say_what_to_do() {
        for (head, code, hint) in [
            ("400 Bad Request", "ExpiredToken", "attach the adapter anew"),
            ("403 Forbidden", "RequestTimeTooSkewed", "clock"),
            ("403 Forbidden", "", "check the credentials"),
            ("404 Not Found", "NoSuchBucket", "create the bucket"),
            (
                "301 Moved\r\nx-amz-bucket-region: eu-west-1",
                "PermanentRedirect",
                "the bucket is in `eu-west-1`",
            ),
            ("307 Elsewhere", "", "check `s3_endpoint`"),
        ] {
            let failure = failure(head, &format!("<Error><Code>{code}</Code></Error>"));
            assert_eq!(failure.kind, FailureKind::Refused, "{failure}");
            assert!(failure.text.contains("\nhint: ") && failure.text.contains(hint), "{failure}");
        }
    }

    #[test]
    fn an_object_that_is_refused_is_no_refusal_of_us() {
        for code in ["KeyTooLongError", "XMinioInvalidObjectName", ""] {
            let failure = failure("400 Bad Request", &format!("<Code>{code}</Code>"));
            assert_eq!(failure.kind, FailureKind::Invalid, "{failure}");
        }
    }
}
