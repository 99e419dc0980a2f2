//! `/quota`: how much each tenant may have (`spec/http-api.md` 2, Quota). Bodies are the peer's, with keys of
//! ours behind its own.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::StatusCode;
use larder_admin_api::quotas::{Quota, QuotaRemoved, QuotaSet, Quotas, Usage};
use larder_core::name::check_cache_salt;
use larder_core::quota::EMPTY_SALT;
use larder_core::units::{bytes_to_gib, gib_to_bytes};
use larder_telemetry::events::Event;
use serde_json::Value;

use super::reply::Refusal;
use super::state::Admin;

/// Tenants without a quota of their own that are listed: those that have most; the rest is left out.
const WITHOUT_QUOTA_MAX: usize = 100;

fn bad_request(text: impl Into<String>) -> Refusal {
    Refusal::error(StatusCode::BAD_REQUEST, text)
}

/// Gives a tenant a quota.
pub(super) async fn set(
    State(admin): State<Admin>,
    ConnectInfo(caller): ConnectInfo<SocketAddr>,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Json<QuotaSet>, Refusal> {
    let cache_salt = salt(&name)?;
    let limit_gb = limit_gb(&body)?;
    let limit_bytes = gib_to_bytes(limit_gb);
    admin.quotas.set(cache_salt, limit_bytes).map_err(|error| bad_request(error.to_string()))?;
    admin.engine.set_quota(cache_salt, Some(limit_bytes));
    tell(&admin, cache_salt, Some(limit_bytes), caller);
    Ok(Json(QuotaSet { cache_salt: shown(cache_salt), limit_gb, status: "ok".into() }))
}

/// Takes a tenant's quota away.
pub(super) async fn remove(
    State(admin): State<Admin>,
    ConnectInfo(caller): ConnectInfo<SocketAddr>,
    Path(name): Path<String>,
) -> Result<Json<QuotaRemoved>, Refusal> {
    let cache_salt = salt(&name)?;
    let status = match admin.quotas.remove(cache_salt) {
        true => {
            admin.engine.set_quota(cache_salt, None);
            tell(&admin, cache_salt, None, caller);
            "removed"
        }
        false => "not_found",
    };
    Ok(Json(QuotaRemoved { cache_salt: shown(cache_salt), status: status.into() }))
}

/// What one tenant may have and has.
pub(super) async fn show(
    State(admin): State<Admin>,
    Path(name): Path<String>,
) -> Result<Json<Quota>, Refusal> {
    let cache_salt = salt(&name)?;
    let limit = admin.quotas.get(cache_salt);
    let used: Vec<(String, u64)> = admin
        .tier
        .adapters()
        .iter()
        .map(|attached| {
            let bytes = attached.bytes_by_salt().get(cache_salt).copied();
            (attached.id().to_owned(), bytes.unwrap_or_default())
        })
        .collect();
    Ok(Json(Quota {
        cache_salt: shown(cache_salt),
        limit_gb: limit_gib(limit.unwrap_or_default()),
        current_usage_gb: bytes_to_gib(used.iter().map(|(_, bytes)| bytes).sum()),
        exists: limit.is_some(),
        effective_limit_gb: admin.quotas.limit_for(cache_salt).map(limit_gib),
        l1_usage_gb: bytes_to_gib(admin.engine.bytes_of_salt(cache_salt)),
        usage_gb_by_adapter: used.into_iter().map(|(id, bytes)| (id, bytes_to_gib(bytes))).collect(),
    }))
}

/// What every tenant with a quota may have and has, and who else has most.
pub(super) async fn list(State(admin): State<Admin>) -> Json<Quotas> {
    let quotas = admin.quotas.snapshot();
    let mut used = used(&admin);
    let mut limits: Vec<_> = quotas.iter().collect();
    limits.sort_unstable();
    let users = limits
        .into_iter()
        .map(|(cache_salt, limit)| {
            let used = used.remove(cache_salt).unwrap_or_default();
            (shown(cache_salt), used.shown(Some(limit)))
        })
        .collect();
    let mut others: Vec<_> = used.into_iter().collect();
    others.sort_by_key(|(_, used)| std::cmp::Reverse(used.l1.max(used.l2)));
    others.truncate(WITHOUT_QUOTA_MAX);
    Json(Quotas {
        users,
        default_limit_gb: quotas.default_limit().map(limit_gib),
        without_quota: others.into_iter().map(|(salt, used)| (shown(&salt), used.shown(None))).collect(),
    })
}

/// Bytes one tenant has.
#[derive(Clone, Copy, Debug, Default)]
struct Used {
    l1: u64,
    l2: u64,
}

impl Used {
    fn shown(self, limit: Option<u64>) -> Usage {
        Usage {
            limit_gb: limit.map(limit_gib),
            current_usage_gb: bytes_to_gib(self.l2),
            l1_usage_gb: bytes_to_gib(self.l1),
        }
    }
}

fn used(admin: &Admin) -> BTreeMap<String, Used> {
    let mut used: BTreeMap<String, Used> = BTreeMap::new();
    for (salt, bytes) in admin.engine.bytes_by_salt() {
        used.entry(salt.into()).or_default().l1 += bytes;
    }
    for attached in admin.tier.adapters().iter() {
        for (salt, bytes) in attached.bytes_by_salt() {
            used.entry(salt.to_string()).or_default().l2 += bytes;
        }
    }
    used
}

fn tell(admin: &Admin, cache_salt: &str, limit_bytes: Option<u64>, caller: SocketAddr) {
    let limit = limit_bytes.map_or("none of its own".to_owned(), |bytes| format!("{bytes} bytes"));
    tracing::info!("{caller} sets the quota of `{}`: {limit}", shown(cache_salt).escape_debug());
    admin.engine.bus().publish(|| Event::Quota { cache_salt, limit_bytes });
}

/// The salt a path names. One with a slash can't be named (`spec/http-api.md` 2); one that no request can
/// carry is a mistake.
fn salt(name: &str) -> Result<&str, Refusal> {
    if name.contains('/') {
        return Err(Refusal::not_found("Not Found"));
    }
    check_cache_salt(name).map_err(|error| bad_request(error.to_string()))?;
    Ok(if name == EMPTY_SALT { "" } else { name })
}

fn shown(cache_salt: &str) -> String {
    if cache_salt.is_empty() { EMPTY_SALT } else { cache_salt }.to_owned()
}

/// What the peer makes of a body: anything that Python's `float` takes, as long as it is finite and not
/// negative.
fn limit_gb(body: &[u8]) -> Result<f64, Refusal> {
    let text = std::str::from_utf8(body).map_err(|_| bad_request("invalid JSON body"))?;
    let parsed = serde_json::from_str(text).or_else(|_| serde_json::from_str(&quote_constants(text)));
    let parsed: Value = parsed.map_err(|_| bad_request("invalid JSON body"))?;
    let limit = parsed.as_object().and_then(|fields| fields.get("limit_gb"));
    let limit = limit.ok_or_else(|| bad_request("body must be {'limit_gb': <float>}"))?;
    let limit = match limit {
        Value::Number(number) => number.as_f64(),
        Value::Bool(yes) => Some(f64::from(u8::from(*yes))),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    match limit {
        None => Err(bad_request("limit_gb must be numeric")),
        Some(limit) if !limit.is_finite() => Err(bad_request("limit_gb must be finite")),
        Some(limit) if limit < 0.0 => Err(bad_request("limit_gb must be non-negative")),
        Some(limit) => Ok(limit),
    }
}

/// Puts the values that only Python's JSON knows, `NaN` and `Infinity`, into quotes; not what looks like them
/// inside a string.
fn quote_constants(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    let (mut is_string, mut is_escaped) = (false, false);
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let is_value = || !is_string && quoted.trim_end().ends_with(':');
        let constant = ["NaN", "-Infinity", "Infinity"].into_iter().find(|it| rest.starts_with(it));
        if let Some(constant) = constant.filter(|_| is_value()) {
            quoted.push_str(&format!("\"{constant}\""));
            rest = &rest[constant.len()..];
            continue;
        }
        is_string ^= character == '"' && !is_escaped;
        is_escaped = character == '\\' && !is_escaped;
        quoted.push(character);
        rest = &rest[character.len_utf8()..];
    }
    quoted
}

/// Decimals that are enough for any limit in GiB; one that would need more is shown in full.
const DECIMALS_MAX: i32 = 12;

/// The shortest number of GiB that means so many bytes: 0.05 and not 0.049999999813735485.
fn limit_gib(limit_bytes: u64) -> f64 {
    let exact = bytes_to_gib(limit_bytes);
    let rounded = (0..=DECIMALS_MAX).map(|decimals| {
        let scale = 10_f64.powi(decimals);
        (exact * scale).round() / scale
    });
    rounded.into_iter().find(|gib| gib_to_bytes(*gib) == limit_bytes).unwrap_or(exact)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_the_peer_reads_them() {
        let read = |body: &str| limit_gb(body.as_bytes()).map_err(|refusal| refusal.text().to_owned());
        for (body, limit) in [
            (r#"{"limit_gb":1.5}"#, 1.5),
            (r#"{"limit_gb":true}"#, 1.0),
            (r#"{"limit_gb":" 2e1 "}"#, 20.0),
            (r#"{"limit_gb":0,"more":1}"#, 0.0),
            (r#"{"limit_gb":2,"more":Infinity,"text":"\\\": NaN"}"#, 2.0),
        ] {
            assert_eq!(read(body), Ok(limit), "{body}");
        }
        for (body, error) in [
            ("{", "invalid JSON body"),
            ("", "invalid JSON body"),
            ("[1]", "body must be {'limit_gb': <float>}"),
            ("{}", "body must be {'limit_gb': <float>}"),
            (r#"{"limit_gb":"x"}"#, "limit_gb must be numeric"),
            (r#"{"limit_gb":null}"#, "limit_gb must be numeric"),
            (r#"{"limit_gb": NaN}"#, "limit_gb must be finite"),
            (r#"{"limit_gb":-Infinity}"#, "limit_gb must be finite"),
            (r#"{"text":"a: NaN","limit_gb":  NaN}"#, "limit_gb must be finite"),
            (r#"{"limit_gb":NaNs}"#, "invalid JSON body"),
            (r#"{"limit_gb":-1}"#, "limit_gb must be non-negative"),
        ] {
            assert_eq!(read(body), Err(error.into()), "{body}");
        }
    }

    #[test]
    fn limits_are_shown_as_they_were_given() {
        for limit in [0.0, 0.05, 0.1, 1.5, 7.25, 1000.001] {
            assert_eq!(limit_gib(gib_to_bytes(limit)), limit);
        }
        for odd in [1, 12_345_678_901, u64::MAX] {
            let shown = limit_gib(odd);
            assert!(gib_to_bytes(shown).abs_diff(odd) <= 1, "{odd} is shown as {shown}");
        }
    }

    #[test]
    fn salts_come_from_paths() {
        assert_eq!((salt("_default").unwrap(), salt("alice").unwrap()), ("", "alice"));
        assert_eq!(salt("a/b").unwrap_err().status(), StatusCode::NOT_FOUND);
        assert_eq!(salt(&"s".repeat(129)).unwrap_err().status(), StatusCode::BAD_REQUEST);
    }
}
