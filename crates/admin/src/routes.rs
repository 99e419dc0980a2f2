//! Every route, and who may take it.

use Access::{Change, Read};
use axum::extract::{DefaultBodyLimit, Extension};
use axum::http::StatusCode;
use axum::routing::{MethodRouter, delete, get, patch, post, put};
use axum::{Router, middleware};

use super::access::{self, HostNames};
use super::bodies::Bodies;
use super::reply::Refusal;
use super::state::Admin;
use super::{adapters, cache, events, health, metrics, plugins, quota, settings, status};

/// What a route asks of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    /// Nothing: reading is open to whoever reaches the socket.
    Read,
    /// To be on this machine and no web page: state changes.
    Change,
}

fn table() -> Vec<(&'static str, Access, MethodRouter<Admin>)> {
    vec![
        ("/", Read, get(health::root)),
        ("/healthcheck", Read, get(health::healthcheck)),
        ("/livez", Read, get(health::livez)),
        ("/readyz", Read, get(health::readyz)),
        ("/status", Read, get(status::show)),
        ("/version", Read, get(health::version)),
        ("/lmc_version", Read, get(health::peer_version)),
        ("/commit_id", Read, get(health::commit)),
        ("/events", Read, get(events::follow)),
        ("/metrics", Read, get(metrics::scrape)),
        ("/periodic-threads", Read, get(health::threads)),
        ("/cache/clear", Change, post(cache::clear)),
        ("/cache/objects", Read, get(cache::list)),
        ("/cache/objects", Change, delete(cache::delete)),
        ("/cache/prefetches", Change, post(cache::prefetch)),
        ("/cache/prefetches/{request_id}", Read, get(cache::prefetch_status)),
        ("/leases", Read, get(cache::leases)),
        ("/leases/release", Change, post(cache::release)),
        ("/config", Read, get(settings::config)),
        ("/config/live", Read, get(settings::show)),
        ("/config/live", Change, patch(settings::change)),
        ("/config/live/rollback", Change, post(settings::roll_back)),
        ("/config/adapters", Read, get(adapters::list)),
        ("/config/adapters", Change, post(adapters::attach)),
        ("/config/adapters/{adapter}", Read, get(adapters::show)),
        ("/config/adapters/{adapter}", Change, delete(adapters::detach)),
        ("/config/adapters/{adapter}/pause", Change, post(adapters::pause)),
        ("/config/adapters/{adapter}/resume", Change, post(adapters::resume)),
        ("/config/adapters/{adapter}/breaker/reset", Change, post(adapters::reset_breaker)),
        ("/quota", Read, get(quota::list)),
        ("/quota/{cache_salt}", Read, get(quota::show)),
        ("/quota/{cache_salt}", Change, put(quota::set).delete(quota::remove)),
        ("/plugins", Read, get(plugins::list)),
        ("/plugins/audit", Read, get(plugins::audit)),
        ("/plugins/schema", Read, get(plugins::manifest_schema)),
        ("/plugins/reload", Change, post(plugins::reload)),
        ("/plugins/{name}", Read, get(plugins::show)),
        ("/plugins/{name}/logs", Read, get(plugins::logs)),
        ("/plugins/{name}/schema", Read, get(plugins::schema)),
        ("/plugins/{name}/{action}", Change, post(plugins::command)),
    ]
}

/// All routes.
pub fn router(admin: Admin) -> Router {
    let names = HostNames::new(&admin.config().http);
    let mut router = Router::new();
    for (path, access, methods) in table() {
        router = router.route(
            path,
            match access {
                Read => methods,
                Change => methods.layer(middleware::from_fn(access::local_callers_only)),
            },
        );
    }
    router
        .fallback(async || Refusal::new(StatusCode::NOT_FOUND, "Not Found"))
        .method_not_allowed_fallback(async || {
            Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")
        })
        .layer(DefaultBodyLimit::disable())
        .layer(Extension(Bodies::default()))
        .layer(middleware::from_fn_with_state(names, access::by_known_names_only))
        .with_state(admin)
}
