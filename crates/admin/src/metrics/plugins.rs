//! `larder_plugin_*`, and what plugins offer themselves.

use std::collections::HashMap;

use larder_supervise::{PluginStatus, Usage};

use super::text::Kind::{Counter, Gauge};
use super::text::{Labelled, Scrape, Table};
use crate::plugins::{PluginSample, state};

const COUNTS: &Table<PluginStatus> = &[
    ("larder_plugin_starts_total", Counter, "Times a plugin's program was started.", |p| p.starts),
    ("larder_plugin_kills_total", Counter, "Runs that needed SIGKILL.", |p| p.kills),
    ("larder_plugin_suppressed_lines_total", Counter, "Lines counted and not logged.", |p| {
        p.lines.suppressed
    }),
    ("larder_plugin_truncated_lines_total", Counter, "Lines that were cut.", |p| p.lines.truncated),
    ("larder_plugin_output_bytes_total", Counter, "Bytes printed.", |p| p.lines.bytes),
];

/// Writes the families; none where no plugin is configured.
pub(super) fn metrics(scrape: &mut Scrape, sample: &PluginSample) {
    let PluginSample { all, usage, offered, skipped, commands } = sample;
    if all.is_empty() && *skipped == 0 {
        return;
    }
    let mut family = scrape.family("larder_plugin_up", Gauge, "Whether a plugin's first process runs.");
    for plugin in all {
        family.sample(&[("plugin", &plugin.name)], u8::from(plugin.pid.is_some()));
    }
    let mut family = scrape.family("larder_plugin_state", Gauge, "1 for the state a plugin is in.");
    for plugin in all {
        family.sample(&[("plugin", &plugin.name), ("state", state(plugin.phase))], 1);
    }
    let mut family = scrape.family(
        "larder_plugin_last_exit_code",
        Gauge,
        "How the latest run ended: the code, or the negated signal.",
    );
    for (plugin, exit) in all.iter().filter_map(|plugin| Some((plugin, plugin.last_exit?))) {
        family.sample(&[("plugin", &plugin.name)], exit.code());
    }
    let by_plugin: Vec<Labelled<'_, PluginStatus>> =
        all.iter().map(|plugin| (vec![("plugin", plugin.name.as_str())], plugin)).collect();
    scrape.each(COUNTS, &by_plugin);
    let mut family = scrape.family("larder_plugin_lines_total", Counter, "Lines printed.");
    for plugin in all {
        family.sample(&[("plugin", &plugin.name), ("stream", "stdout")], plugin.lines.stdout);
        family.sample(&[("plugin", &plugin.name), ("stream", "stderr")], plugin.lines.stderr);
    }
    resources(scrape, all, usage);
    let help = "Lines of its own metrics that were left out of this scrape.";
    let mut family = scrape.family("larder_plugin_metric_lines_dropped", Gauge, help);
    for (plugin, lines) in &offered.dropped {
        family.sample(&[("plugin", plugin)], lines);
    }
    scrape.append(&offered.text);
    scrape.single("larder_plugins_skipped", Gauge, "Files found in the locations and not run.", skipped);
    scrape.single("larder_plugin_commands_total", Counter, "Commands taken over HTTP.", commands);
}

fn resources(scrape: &mut Scrape, all: &[PluginStatus], usage: &HashMap<String, Usage>) {
    let used: Vec<(&str, &Usage)> =
        all.iter().filter_map(|plugin| Some((plugin.name.as_str(), usage.get(&plugin.name)?))).collect();
    let help = "Processor time of the processes a plugin has now; it begins anew with every run.";
    let mut family = scrape.family("larder_plugin_cpu_seconds", Gauge, help);
    for (name, usage) in &used {
        family.sample(&[("plugin", name)], usage.cpu_s);
    }
    let mut family = scrape.family("larder_plugin_resident_bytes", Gauge, "Memory of a plugin's processes.");
    for (name, usage) in &used {
        family.sample(&[("plugin", name)], usage.resident_bytes);
    }
    let mut family = scrape.family("larder_plugin_processes", Gauge, "A plugin's processes.");
    for (name, usage) in &used {
        family.sample(&[("plugin", name)], usage.processes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_said_where_there_are_no_plugins() {
        let mut scrape = Scrape::default();
        metrics(&mut scrape, &PluginSample::default());
        assert_eq!(scrape.finish(), "");
    }
}
