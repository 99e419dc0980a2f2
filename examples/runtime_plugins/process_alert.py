#!/usr/bin/env python3
"""Watches the server's process and raises an alert when it uses more than it should: in the log, and at a webhook.

Settings: plugin.process_alert.rss_bytes, .cpu_percent, .threads, .open_files (limits; none by default), .webhook_url, .interval (10 s),
.pid (another process than the server).
"""

import os
from pathlib import Path

import _plugin as plugin

LIMITS = ("rss_bytes", "cpu_percent", "threads", "open_files")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def fields(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat behind the name, which may contain anything."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def measure(pid: int, interval_s: float, earlier_ticks: int) -> tuple[dict[str, float], int]:
    """Return what the process uses now, and its processor time so far."""
    stat = fields(pid)
    ticks = int(stat[11]) + int(stat[12])
    return {
        "rss_bytes": int(stat[21]) * PAGE_BYTES,
        "cpu_percent": (ticks - earlier_ticks) / TICKS_PER_S / interval_s * 100,
        "threads": int(stat[17]),
        "open_files": len(os.listdir(f"/proc/{pid}/fd")),
    }, ticks


def alert(webhook_url: str | None, pid: int, metric: str, value: float, limit: float) -> None:
    over = value > limit
    plugin.say(f"{metric} is {value:.0f}, {'over' if over else 'back under'} {limit:.0f}", level=3 if over else 5)
    if webhook_url:
        body = {"alert": metric, "firing": over, "value": value, "limit": limit, "pid": pid}
        try:
            plugin.request(webhook_url, body)
        except OSError as error:
            plugin.say(f"webhook: {error}", level=4)


def run(config: dict) -> int:
    own = plugin.settings(config, **dict.fromkeys(LIMITS), webhook_url=None, interval=10.0, pid=None)
    limits = {metric: float(own[metric]) for metric in LIMITS if own[metric] is not None}
    pid, interval_s = int(own["pid"] or plugin.server_pid()), float(own["interval"])
    plugin.say(f"watching process {pid}: {limits or 'no limits are set'}")
    firing: set[str] = set()
    _, ticks = measure(pid, interval_s, 0)
    while not plugin.stop.wait(interval_s):
        try:
            used, ticks = measure(pid, interval_s, ticks)
        except OSError:
            plugin.say(f"process {pid} is gone", level=3)
            return 1
        for metric, limit in limits.items():
            # Only when it changes: an alert that repeats itself is soon ignored.
            if (used[metric] > limit) != (metric in firing):
                firing ^= {metric}
                alert(own["webhook_url"], pid, metric, used[metric], limit)
    return 0


plugin.main(run)
