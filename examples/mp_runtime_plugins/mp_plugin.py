#!/usr/bin/env python3
"""Runtime plugin for the multiprocess server: reads its configuration and reports that it is alive.

Standard library only. Runs beside `larder server` and beside LMCache's own server.
"""

import json
import os
import re
import signal
import stat
import sys
import threading

NAME = "mp_plugin"
DEFAULT_INTERVAL_SECONDS = 30.0
SECRET_KEY = re.compile(r"secret|passw|credential|api_?key|access_?key|auth", re.IGNORECASE)


def say(text: str) -> None:
    """Print one line; the server logs it behind this file's path."""
    print(f"[{NAME}] {text}", flush=True)


def load_config() -> dict:
    """Return the server's configuration.

    The file holds all of it; the variable may be shortened when the configuration is very large. Older servers set the variable only.
    """
    path = os.environ.get("LMCACHE_RUNTIME_PLUGIN_CONFIG_FILE")
    try:
        if path:
            with open(path, encoding="utf-8") as file:
                return json.load(file)
        return json.loads(os.environ.get("LMCACHE_RUNTIME_PLUGIN_CONFIG") or "{}")
    except (OSError, ValueError) as error:
        say(f"configuration cannot be read: {error}")
        return {}


def without_secrets(value: object) -> object:
    """Return a copy in which values of secret-looking keys are masked."""
    if isinstance(value, dict):
        return {k: "***" if SECRET_KEY.search(k) and v else without_secrets(v) for k, v in value.items()}
    if isinstance(value, list):
        return [without_secrets(item) for item in value]
    return value


def section(config: dict, *path: str) -> dict:
    """Return a nested section, or an empty one where it is missing."""
    node = config
    for key in path:
        node = node.get(key) if isinstance(node, dict) else None
    return node if isinstance(node, dict) else {}


def describe(config: dict) -> None:
    """Print where the server listens and how it stores."""
    mp = section(config, "mp_config")
    say(f"MP server: host={mp.get('host', '?')} port={mp.get('port', '?')} chunk_size={mp.get('chunk_size', '?')}")
    storage = section(config, "storage_manager_config")
    size_bytes = section(storage, "l1_manager_config", "memory_config").get("size_in_bytes", 0)
    eviction = section(storage, "eviction_config")
    say(
        f"Storage: L1={size_bytes / 1024**3:.1f}GB eviction={eviction.get('eviction_policy', '?')} "
        f"watermark={eviction.get('trigger_watermark', '?')}"
    )


def interval_seconds(config: dict) -> float:
    """Return the time between heartbeats; set it with `--runtime-plugin-config '{"plugin.mp_plugin.interval": 5}'`."""
    wanted = section(config, "runtime_plugin_extra_config").get(f"plugin.{NAME}.interval", DEFAULT_INTERVAL_SECONDS)
    try:
        return max(0.1, float(wanted))
    except (TypeError, ValueError):
        say(f"plugin.{NAME}.interval is no number: {wanted!r}")
        return DEFAULT_INTERVAL_SECONDS


def stop_when_input_ends(stop: threading.Event) -> None:
    """Set `stop` when the server closes our input, or goes away with the other end of it."""
    if not stat.S_ISFIFO(os.fstat(0).st_mode):
        return

    def drain() -> None:
        while os.read(0, 4096):
            pass
        stop.set()

    threading.Thread(target=drain, daemon=True).start()


def main() -> int:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    parent = os.getppid()
    stop_when_input_ends(stop)

    say("Started")
    config = load_config()
    say(f"config: {json.dumps(without_secrets(config))}")
    describe(config)
    pause = interval_seconds(config)
    beat = 0
    while os.getppid() == parent:
        say(f"heartbeat #{beat}")
        beat += 1
        if stop.wait(pause):
            break
    say("Stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
