//! `after`: who starts once somebody else is ready, and ends before them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::roster::Handle;
use crate::lifecycle::{Event, Phase};
use crate::plugin::Published;

/// How long a plugin waits for those it comes after; then it starts all the same.
const PREDECESSORS_MAX: Duration = Duration::from_secs(120);

/// Starts those of `plugins` that are `new` and enabled, each as soon as those it comes after are ready, have
/// ended or have failed.
pub(crate) fn begin(plugins: &[Arc<Handle>], new: &[String]) {
    let waves = waves(plugins);
    let by_name: HashMap<&str, &Arc<Handle>> = plugins.iter().map(|p| (p.name.as_str(), p)).collect();
    let wave_of = |name: &str| waves.iter().position(|wave| wave.iter().any(|i| plugins[*i].name == name));
    for plugin in plugins.iter().filter(|p| new.contains(&p.name)) {
        let orders = plugin.orders();
        let first = if orders.enabled { Event::Start } else { Event::Disable };
        let mut before: Vec<watch::Receiver<Published>> = Vec::new();
        for name in &orders.after {
            match by_name.get(name.as_str()) {
                // Members of a circle share a wave, and none of them waits for another.
                Some(other) if wave_of(name) < wave_of(&plugin.name) => before.push(other.status.clone()),
                Some(_) => tracing::warn!(target: "larder_supervise",
                    "Runtime plugin {}: `after = {name:?}` leads in a circle and is left out", plugin.name),
                None => tracing::warn!(target: "larder_supervise",
                    "Runtime plugin {}: `after = {name:?}` names no plugin", plugin.name),
            }
        }
        let commands = plugin.commands.clone();
        if before.is_empty() {
            // The channel is new and has room.
            _ = commands.try_send(first);
            continue;
        }
        let waited = async move {
            for mut status in before {
                // A plugin whose task has ended is waited for no longer.
                _ = status.wait_for(may_be_followed).await;
            }
        };
        // Weak, so that waiting does not keep a plugin that has been let go.
        let commands = commands.downgrade();
        let name = plugin.name.clone();
        tokio::spawn(async move {
            // A late predecessor is no reason never to start.
            if timeout(PREDECESSORS_MAX, waited).await.is_err() {
                tracing::warn!(target: "larder_supervise",
                    "Runtime plugin {name} starts although not all it comes after are ready after {} s",
                    PREDECESSORS_MAX.as_secs());
            }
            if let Some(commands) = commands.upgrade() {
                _ = commands.send(first).await;
            }
        });
    }
}

/// Whether those that come after need not wait any longer.
fn may_be_followed(status: &Published) -> bool {
    !matches!(
        status.lifecycle.phase(),
        Phase::Waiting | Phase::Launching { .. } | Phase::Starting { .. } | Phase::Backoff { .. }
    )
}

/// Indexes grouped so that everyone's predecessors are in earlier groups; circles are in the last one.
pub(crate) fn waves(plugins: &[Arc<Handle>]) -> Vec<Vec<usize>> {
    let names: Vec<_> = plugins.iter().map(|p| p.name.as_str()).collect();
    let orders: Vec<_> = plugins.iter().map(|p| p.orders().after).collect();
    let after: Vec<_> = orders.iter().map(|after| after.iter().map(String::as_str).collect()).collect();
    group(&names, &after)
}

fn group(names: &[&str], after: &[Vec<&str>]) -> Vec<Vec<usize>> {
    let mut waves: Vec<Vec<usize>> = Vec::new();
    let mut placed = vec![false; names.len()];
    loop {
        let free = |name: &&str| names.iter().position(|n| n == name).is_none_or(|i| placed[i]);
        let wave: Vec<_> = (0..names.len()).filter(|i| !placed[*i] && after[*i].iter().all(free)).collect();
        if wave.is_empty() {
            break;
        }
        wave.iter().for_each(|i| placed[*i] = true);
        waves.push(wave);
    }
    let circle: Vec<_> = (0..names.len()).filter(|i| !placed[*i]).collect();
    if !circle.is_empty() {
        waves.push(circle);
    }
    waves
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn predecessors_come_first_and_circles_last() {
        let names = ["a", "b", "c", "d", "x", "y"];
        let after = [vec!["b"], vec!["c"], vec![], vec!["nobody"], vec!["y"], vec!["x", "c"]];
        assert_eq!(group(&names, &after), [vec![2, 3], vec![1], vec![0], vec![4, 5]]);
        assert_eq!(group(&[], &[]), Vec::<Vec<usize>>::new());
    }
}
