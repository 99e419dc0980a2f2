//! What a plugin's task waits for: each waits for ever where there is nothing to wait for.

use std::future::pending;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::contract::Feed;
use crate::control::{Alert, Channel};
use crate::health::{HealthChecks, HealthSign};
use crate::metrics::MetricLines;
use crate::os::ProcessEvent;

pub(crate) async fn next_event(events: &mut Option<mpsc::Receiver<ProcessEvent>>) -> ProcessEvent {
    if let Some(receiver) = events {
        if let Some(event) = receiver.recv().await {
            return event;
        }
        *events = None;
    }
    pending().await
}

pub(crate) async fn next_sign(health: &mut Option<HealthChecks>) -> HealthSign {
    match health {
        Some(health) => health.next().await,
        None => pending().await,
    }
}

pub(crate) async fn control_turn(control: &mut Option<Channel>) -> Option<Alert> {
    match control {
        Some(control) => control.turn().await,
        None => pending().await,
    }
}

pub(crate) async fn feed_turn(feed: &mut Option<Feed>) {
    match feed {
        Some(feed) => feed.turn().await,
        None => pending().await,
    }
}

pub(crate) async fn metrics_turn(metrics: &mut Option<MetricLines>) {
    match metrics {
        Some(metrics) => metrics.turn().await,
        None => pending().await,
    }
}

pub(crate) async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}
