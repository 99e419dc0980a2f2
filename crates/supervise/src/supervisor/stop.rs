//! How all plugins are ended: in the reverse of the order in which they start, within one budget.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

use super::roster::Handle;
use super::status::StopReport;
use super::{Supervisor, start_order};
use crate::lifecycle::Event;
use crate::os::Spawner;
use crate::plugin::Published;

/// How long the end of a stop waits for the last lines of one plugin.
const LAST_LINES_MAX: Duration = Duration::from_millis(500);
/// How long a wave waits for processes that were killed before the next one is told to end.
const KILLED_MAX: Duration = Duration::from_secs(1);
/// Added to the time that a wave's manifests ask for, so that a plugin that is killed in its own time does
/// not count as killed by the budget.
const WAVE_MARGIN: Duration = Duration::from_millis(500);

impl<S: Spawner> Supervisor<S> {
    /// Ends all plugins within the budget and leaves nothing behind: asks, waits as long as each policy and
    /// the budget allow, then kills. What others start after ends after them, and has its share of the budget
    /// whatever they do with theirs. Afterwards no plugin can be started any more.
    pub async fn stop(&self) -> StopReport {
        self.stopping.send_replace(true);
        let plugins = std::mem::take(&mut *self.roster()).plugins;
        let mut report = StopReport::default();
        let mut waves: Vec<Vec<&Arc<Handle>>> = start_order::waves(&plugins)
            .iter()
            .rev()
            .map(|wave| wave.iter().filter_map(|index| plugins.get(*index)).collect())
            .collect();
        waves.retain(|wave| !wave.is_empty());
        let needs: Vec<Duration> = waves.iter().map(|wave| need(wave)).collect();
        let end = Instant::now() + self.stop_budget;
        for (index, wave) in waves.iter().enumerate() {
            let left = end.saturating_duration_since(Instant::now());
            stop_wave(wave, Instant::now() + share(left, &needs[index..]), &mut report).await;
        }
        if !self.shared.spawner.close().await {
            report.remaining = report.killed.clone();
        }
        let tasks: Vec<_> = plugins.iter().filter_map(|p| p.take_task()).collect();
        drop(plugins);
        for task in tasks {
            // A task that failed has no more to log.
            _ = timeout(LAST_LINES_MAX, task).await;
        }
        report
    }

    /// Tells of plugins whose manifests ask for more time than a stop of all will give them.
    pub(super) fn warn_of_stop_budget(&self, plugins: &[Arc<Handle>], names: &[String]) {
        for plugin in plugins.iter().filter(|plugin| names.contains(&plugin.name)) {
            let (asked, budget) = (plugin.orders().stop_time, self.stop_budget);
            if asked > budget {
                tracing::warn!(target: "larder_supervise",
                    "Runtime plugin {}: its manifest gives it {asked:?} to end, but the server's end waits {budget:?} at most\n\
                     hint: raise the stop budget (`--runtime-plugin-stop-budget`)",
                    plugin.name);
            }
        }
    }
}

/// The longest time that a plugin of the wave may take by its own manifest.
fn need(wave: &[&Arc<Handle>]) -> Duration {
    let running = wave.iter().map(|plugin| plugin.status.borrow()).filter(|status| !status.is_at_rest());
    let longest =
        running.map(|status| status.lifecycle.policy().stop_time().saturating_add(WAVE_MARGIN)).max();
    longest.unwrap_or_default()
}

/// What the first of `needs` gets of the time that is left: all it needs if there is enough for all, or else
/// its part.
fn share(left: Duration, needs: &[Duration]) -> Duration {
    let all: f64 = needs.iter().map(Duration::as_secs_f64).sum();
    match needs.first() {
        Some(first) if all > left.as_secs_f64() => left.mul_f64((first.as_secs_f64() / all).clamp(0.0, 1.0)),
        Some(first) => *first,
        None => left,
    }
}

async fn stop_wave(wave: &[&Arc<Handle>], deadline: Instant, report: &mut StopReport) {
    let mut running = Vec::new();
    for plugin in wave {
        let before = plugin.status.borrow().clone();
        let sent = timeout_at(deadline, plugin.commands.send(Event::Stop)).await;
        if let Some(number) = sent.ok().flatten().filter(|_| !before.is_at_rest()) {
            running.push((plugin, before, number));
        }
    }
    let mut late = Vec::new();
    for (plugin, _, number) in &running {
        if !is_over(plugin, *number, deadline).await {
            late.push(plugin);
        }
    }
    let latest = Instant::now() + KILLED_MAX;
    for plugin in late {
        if let Ok(Some(number)) = timeout_at(latest, plugin.commands.send(Event::TimeIsUp)).await {
            is_over(plugin, number, latest).await;
        }
    }
    for (plugin, before, _) in running {
        let name = plugin.name.clone();
        let status = plugin.status.borrow();
        if !status.is_at_rest() || status.kills > before.kills {
            report.killed.push(name.clone());
        }
        report.stopped.push(name);
    }
}

async fn is_over(plugin: &Handle, command: u64, latest: Instant) -> bool {
    let mut status = plugin.status.clone();
    let over = status.wait_for(|s: &Published| s.commands >= command && s.is_at_rest());
    timeout_at(latest, over).await.is_ok_and(|status| status.is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wave_gets_what_it_needs_or_its_part() {
        let seconds = |list: &[u64]| list.iter().map(|s| Duration::from_secs(*s)).collect::<Vec<_>>();
        let of = |left, needs: &[u64]| share(Duration::from_secs(left), &seconds(needs)).as_secs_f64();
        assert_eq!(of(30, &[5, 5, 5]), 5.0);
        assert_eq!(of(30, &[60, 10, 20]), 20.0);
        assert_eq!(of(9, &[10, 20]), 3.0);
        assert_eq!(of(10, &[0, 5]), 0.0);
        assert_eq!(of(0, &[5]), 0.0);
        assert_eq!(share(Duration::from_secs(3), &[Duration::MAX]), Duration::from_secs(3));
    }
}
