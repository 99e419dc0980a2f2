//! One scrape: every part in its order.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::text::Scrape;
use super::{engine, l1, l2, lifetimes, lookups, plugins, process, rpc};
use crate::health::ROUND_TRIP_MAX;
use crate::plugins::PluginSample;
use crate::state::Admin;

/// `GET /metrics`.
pub(crate) async fn scrape(State(admin): State<Admin>) -> Response {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    // For its metric; one that does not come is counted.
    _ = admin.rpc.round_trip(ROUND_TRIP_MAX).await;
    let plugins = admin.plugins.sample().await;
    (kind, text(&admin, &plugins)).into_response()
}

fn text(admin: &Admin, plugins: &PluginSample) -> String {
    let mut scrape = Scrape::default();
    let (engine, status) = (&admin.engine, admin.engine.status());
    l1::metrics(&mut scrape, engine, &status, &admin.tasks);
    lookups::metrics(&mut scrape, engine.counters());
    lifetimes::metrics(&mut scrape, engine.lifetimes().as_ref());
    engine::log_and_jobs(&mut scrape, &status);
    l2::metrics(&mut scrape, engine, &admin.tier);
    engine::metrics(&mut scrape, engine, &status);
    rpc::metrics(&mut scrape, &admin.rpc);
    process::tasks(&mut scrape, &admin.tasks);
    process::metrics(&mut scrape, &admin.build, &admin.config().mp.instance_id, &admin.http);
    plugins::metrics(&mut scrape, plugins);
    engine::hints(&mut scrape, engine);
    scrape.finish()
}
