//! What one thread says to the store about each object.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use base16ct::lower::encode_string;
use larder_core::key::ObjectKey;

use super::http::{HttpConnection, Payload};
use super::options::{PART_BYTES_MIN, PARTS_MAX, S3Options};
use super::refusal::{refused, unexpected};
use super::response::{Body, Response};
use super::sign::{Request, signed_headers};
use super::xml;
use crate::adapter::{
    Deleted, Found, KeyResult, ListPage, ListRequest, Listed, LoadItem, Loaded, Seal, StoreItem, Stored,
};
use crate::adapters::link::Link;
use crate::adapters::remote::RemoteSession;
use crate::error::{Error, Failure, FailureKind};
use crate::names::KeyDecoder;

/// The user metadata a seal is kept in.
const SEAL_HEADER: &str = "x-amz-meta-larder-seal";
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
/// What our page tokens start with; the rest is the store's own.
const TOKEN_PREFIX: &str = "s3.";

/// What all threads of one adapter share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: S3Options,
    pub(super) link: Link,
}

impl Shared {
    pub(super) fn new(options: S3Options) -> Result<Self, Failure> {
        let link = Link::new(options.tls.as_ref(), options.connect_timeout_ms, options.request_timeout_ms)?;
        Ok(Self { options, link })
    }
}

/// The connection of one thread.
#[derive(Debug)]
pub(super) struct Session {
    shared: Arc<Shared>,
    connection: Option<HttpConnection>,
}

impl Session {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, connection: None }
    }

    fn path(&self, name: &str) -> String {
        match &self.shared.options.bucket {
            Some(bucket) => format!("/{bucket}/{name}"),
            None => format!("/{name}"),
        }
    }

    fn object(&self, method: &'static str, key: &ObjectKey) -> Result<Request, Failure> {
        let path = self.path(&self.shared.options.object_name(key)?);
        Ok(Request { method, path, ..Request::default() })
    }

    /// Sends a request and hands the response to `read`. A connection whose response was not read whole is
    /// dropped.
    fn send<T>(
        &mut self,
        request: &Request,
        payload: Payload<'_>,
        read: impl FnOnce(&Response, &mut HttpConnection) -> io::Result<T>,
    ) -> Result<(Response, T), Failure> {
        let shared = Arc::clone(&self.shared);
        let options = &shared.options;
        let exchange = || {
            let mut connection = match self.connection.take().filter(HttpConnection::is_reusable) {
                Some(connection) => connection,
                None => HttpConnection::open(&shared.link.connector, &options.host, options.port)?,
            };
            let headers = signed_headers(request, options, UNSIGNED, SystemTime::now());
            let response = connection.exchange(request.method, &request.target(), &headers, payload)?;
            let value = read(&response, &mut connection)?;
            self.connection = Some(connection);
            Ok((response, value))
        };
        let result = exchange().map_err(|error: io::Error| {
            Failure::io(format!("{} `{}` at `{}`", request.method, request.path, options.authority()), &error)
        });
        shared.link.note(result.as_ref().err());
        result
    }

    /// Sends a request whose response is short text; a status that is no success is a failure.
    fn ask(&mut self, request: &Request, payload: Payload<'_>) -> Result<(Response, String), Failure> {
        let (response, text) =
            self.send(request, payload, |response, connection| connection.text(response.body))?;
        if (200..300).contains(&response.status) {
            Ok((response, text))
        } else {
            Err(refused(request, &response, &text))
        }
    }

    /// Size of an object, or none.
    fn size(&mut self, key: &ObjectKey) -> Result<Option<u64>, Failure> {
        let request = self.object("HEAD", key)?;
        let (response, ()) = self.send(&request, Payload::Bytes(b""), |_, _| Ok(()))?;
        match response.status {
            200..300 => Ok(response.header("content-length").and_then(|len| len.parse().ok())),
            404 => Ok(None),
            400..=499 => Err(self.refusal_of(request, &response)),
            _ => Err(refused(&request, &response, "")),
        }
    }

    /// Why a `HEAD` was refused. Its answer has no body that could say so; that to a `GET` has.
    fn refusal_of(&mut self, head: Request, refusal: &Response) -> Failure {
        let headers = vec![("range", "bytes=0-0".to_owned())];
        let get = Request { method: "GET", headers, ..head.clone() };
        let read = |response: &Response, connection: &mut HttpConnection| {
            if response.status < 400 {
                connection.abandon();
                return Ok(String::new());
            }
            connection.text(response.body)
        };
        match self.send(&get, Payload::Bytes(b""), read) {
            Ok((response, text)) if response.status >= 400 => refused(&get, &response, &text),
            Ok(_) | Err(_) => refused(&head, refusal, ""),
        }
    }

    fn store_one(&mut self, item: &StoreItem) -> KeyResult<Stored> {
        let len = item.buffer.len();
        if self.size(&item.key)? == Some(len as u64) {
            return Ok(Stored { bytes_written: 0 });
        }
        let part_bytes = self.shared.options.part_bytes.max(PART_BYTES_MIN).max(len.div_ceil(PARTS_MAX));
        let seal: Vec<_> =
            item.seal.map(|seal| (SEAL_HEADER, encode_string(&seal.encode(&item.key)))).into_iter().collect();
        if len <= part_bytes {
            let request = Request { headers: seal, ..self.object("PUT", &item.key)? };
            self.ask(&request, Payload::Lent(&*item.buffer, 0..len))?;
        } else {
            self.upload_parts(item, part_bytes, seal)?;
        }
        Ok(Stored { bytes_written: len as u64 })
    }

    /// A multipart upload: the object appears when it is completed, as a whole.
    fn upload_parts(
        &mut self,
        item: &StoreItem,
        part_bytes: usize,
        seal: Vec<(&'static str, String)>,
    ) -> Result<(), Failure> {
        let query = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let create =
            Request { query: vec![query("uploads", "")], headers: seal, ..self.object("POST", &item.key)? };
        let (_, created) = self.ask(&create, Payload::Bytes(b""))?;
        let id = xml::text(&created, "UploadId").ok_or_else(|| unexpected(&create, &created))?;
        let uploaded = self.upload_all(item, part_bytes, &id).and_then(|parts| {
            let body = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
            let complete = Request { query: vec![query("uploadId", &id)], ..self.object("POST", &item.key)? };
            let (_, completed) = self.ask(&complete, Payload::Bytes(body.as_bytes()))?;
            // A completion may fail after its status was sent.
            if xml::text(&completed, "ETag").is_some() {
                Ok(())
            } else {
                Err(unexpected(&complete, &completed))
            }
        });
        if uploaded.is_err() {
            let abort = Request { query: vec![query("uploadId", &id)], ..self.object("DELETE", &item.key)? };
            // What can't be aborted is left to the bucket's lifecycle rule.
            _ = self.ask(&abort, Payload::Bytes(b""));
        }
        uploaded
    }

    fn upload_all(&mut self, item: &StoreItem, part_bytes: usize, id: &str) -> Result<String, Failure> {
        let mut parts = String::new();
        for (index, range) in ranges(item.buffer.len(), part_bytes).enumerate() {
            let number = index + 1;
            let query =
                vec![("partNumber".to_owned(), number.to_string()), ("uploadId".to_owned(), id.to_owned())];
            let request = Request { query, ..self.object("PUT", &item.key)? };
            let (response, text) = self.ask(&request, Payload::Lent(&*item.buffer, range))?;
            let tag = response.header("etag").ok_or_else(|| unexpected(&request, &text))?;
            let tag = xml::escape(tag);
            parts.push_str(&format!("<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>"));
        }
        Ok(parts)
    }

    /// Fetches an object range by range; all ranges are of the same version of it.
    fn load_one(&mut self, item: &LoadItem) -> KeyResult<Loaded> {
        let len = item.buffer.len();
        let mut version: Option<String> = None;
        let mut seal = None;
        for range in ranges(len, self.shared.options.part_bytes.max(1)) {
            let mut request = self.object("GET", &item.key)?;
            request.headers.push(("range", format!("bytes={}-{}", range.start, range.end - 1)));
            if let Some(version) = &version {
                request.headers.push(("if-match", version.clone()));
            }
            let response = self.fetch(&request, item, range)?;
            let tag = response.header("etag").map(str::to_owned);
            if version.is_none() {
                seal = response.header(SEAL_HEADER).and_then(|text| decode_seal(text, &item.key));
            } else if tag != version {
                return Err(replaced().into());
            }
            version = tag;
        }
        Ok(Loaded { seal })
    }

    fn fetch(&mut self, request: &Request, item: &LoadItem, range: Range<usize>) -> Result<Response, Error> {
        let len = item.buffer.len() as u64;
        let read = |response: &Response, connection: &mut HttpConnection| {
            let is_asked_for = is_range(response, &range, len);
            if matches!(response.status, 200 | 206) && is_asked_for {
                connection.fill(&*item.buffer, range.clone())?;
                return Ok(None);
            }
            if matches!(response.status, 200 | 206) {
                connection.abandon();
                return Ok(Some(String::new()));
            }
            connection.text(response.body).map(Some)
        };
        let (response, text) = self.send(request, Payload::Bytes(b""), read)?;
        match (response.status, text) {
            (200 | 206, None) => Ok(response),
            (200 | 206, Some(_)) if total(&response) == Some(len) => {
                let text =
                    format!("{} `{}`: server sent another part than asked for", request.method, request.path);
                Err(Failure::permanent(FailureKind::Io, text).into())
            }
            (200 | 206, Some(_)) => Err(item.length_mismatch(total(&response).unwrap_or(0)).into()),
            (404, Some(text)) if xml::text(&text, "Code").as_deref() != Some("NoSuchBucket") => {
                Err(Error::Absent)
            }
            (412, _) => Err(replaced().into()),
            (416, _) => Err(item.length_mismatch(total(&response).unwrap_or(0)).into()),
            (_, text) => Err(refused(request, &response, &text.unwrap_or_default()).into()),
        }
    }

    fn delete_one(&mut self, key: &ObjectKey) -> KeyResult<Deleted> {
        let bytes_freed = self.size(key)?.ok_or(Error::Absent)?;
        let request = self.object("DELETE", key)?;
        self.ask(&request, Payload::Bytes(b""))?;
        Ok(Deleted { bytes_freed })
    }

    fn page(&mut self, request: &ListRequest) -> Result<ListPage, Failure> {
        let prefix = self.shared.options.name_prefix();
        let mut query = vec![
            ("list-type".to_owned(), "2".to_owned()),
            ("max-keys".to_owned(), request.entries_max.clamp(1, 1000).to_string()),
            ("prefix".to_owned(), prefix.clone()),
        ];
        if let Some(token) = &request.page_token {
            let token = token.strip_prefix(TOKEN_PREFIX).ok_or_else(|| {
                let text = format!("page token `{}` is not one of ours", token.escape_debug());
                Failure::permanent(FailureKind::Invalid, text)
            })?;
            query.push(("continuation-token".to_owned(), token.to_owned()));
        }
        let list = Request { method: "GET", path: self.path(""), query, headers: Vec::new() };
        let (_, listing) = self.ask(&list, Payload::Bytes(b""))?;
        if let Some(fault) = xml::fault(&listing) {
            let text = format!("the answer to a listing is no XML: {fault}");
            return Err(Failure::retryable(FailureKind::Io, text));
        }
        let mut page = read_listing(&listing, &prefix, self.shared.options.is_prefixed_by_salt);
        let wanted = |listed: &Listed| {
            request.model_name.as_deref().is_none_or(|model| model == &**listed.key.namespace.model_name())
        };
        page.entries.retain(wanted);
        Ok(page)
    }
}

/// Reads a listing of names that start with `prefix`.
pub(super) fn read_listing(listing: &str, prefix: &str, is_salted: bool) -> ListPage {
    let decoder = KeyDecoder::default();
    let entry = |contents: &str| {
        let name = xml::text(contents, "Key")?;
        let key = listed_key(name.strip_prefix(prefix)?, is_salted, &decoder)?;
        Some(Listed { key, bytes: xml::text(contents, "Size")?.parse().ok()? })
    };
    let entries = xml::elements(listing, "Contents").filter_map(|contents| entry(&contents)).collect();
    let token = xml::text(listing, "NextContinuationToken").filter(|token| !token.is_empty());
    ListPage { entries, next_page_token: token.map(|token| format!("{TOKEN_PREFIX}{token}")) }
}

impl RemoteSession for Session {
    fn link(&self) -> &Link {
        &self.shared.link
    }

    fn store(&mut self, items: &[&StoreItem]) -> Vec<KeyResult<Stored>> {
        items.iter().map(|item| self.store_one(item)).collect()
    }

    fn find(&mut self, keys: &[&ObjectKey]) -> Vec<KeyResult<Found>> {
        let found = |size: Option<u64>| size.map(|bytes| Found::asked(Some(bytes))).ok_or(Error::Absent);
        keys.iter().map(|key| self.size(key).map_err(Error::from).and_then(found)).collect()
    }

    fn load(&mut self, items: &[&LoadItem]) -> Vec<KeyResult<Loaded>> {
        items.iter().map(|item| self.load_one(item)).collect()
    }

    fn delete(&mut self, keys: &[&ObjectKey]) -> Vec<KeyResult<Deleted>> {
        keys.iter().map(|key| self.delete_one(key)).collect()
    }

    fn list(&mut self, request: &ListRequest) -> Result<ListPage, Failure> {
        self.page(request)
    }
}

/// Splits `0..len` into pieces; an empty object has none.
fn ranges(len: usize, piece: usize) -> impl Iterator<Item = Range<usize>> {
    (0..len).step_by(piece).map(move |start| start..len.min(start + piece))
}

fn replaced() -> Failure {
    Failure::retryable(FailureKind::Io, "object was replaced while it was fetched")
}

/// Whether a response brings that range of an object of `len` bytes.
fn is_range(response: &Response, range: &Range<usize>, len: u64) -> bool {
    let is_right_part = match response.header("content-range") {
        Some(said) => said == format!("bytes {}-{}/{len}", range.start, range.end - 1),
        None => range.len() as u64 == len,
    };
    is_right_part && response.body == Body::Length(range.len() as u64)
}

/// The size of the whole object a response speaks of.
fn total(response: &Response) -> Option<u64> {
    match response.header("content-range") {
        Some(range) => range.rsplit_once('/')?.1.parse().ok(),
        None => response.header("content-length")?.parse().ok(),
    }
}

pub(super) fn decode_seal(text: &str, key: &ObjectKey) -> Option<Seal> {
    Seal::decode(&base16ct::mixed::decode_vec(text).ok()?, key)
}

/// A name below the prefix; a salt in front must be the key's own.
fn listed_key(name: &str, is_salted: bool, decoder: &KeyDecoder) -> Option<ObjectKey> {
    let key = decoder.wire_name(name)?;
    let salt = key.namespace.cache_salt();
    if !is_salted || salt.is_empty() {
        return Some(key);
    }
    let unsalted = name.strip_prefix(&**salt)?.strip_prefix('/')?;
    decoder.wire_name(unsalted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_is_read_from_whole_digits_only() {
        let key = crate::conformance::object_key(0);
        let seal = Seal { checksum: 7, layout: 0x0f << 56 };
        let text = encode_string(&seal.encode(&key));
        assert_eq!(decode_seal(&text, &key), Some(seal));
        assert_eq!(decode_seal(&text.to_uppercase(), &key), Some(seal));
        let signed = format!("{}+f", text.strip_suffix("0f").unwrap());
        for wrong in ["", &text[1..], &format!("{text}0"), &signed] {
            assert_eq!(decode_seal(wrong, &key), None, "{wrong}");
        }
    }
}
