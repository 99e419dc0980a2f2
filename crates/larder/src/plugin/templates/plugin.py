#!/usr/bin/env python3
"""PLUGIN_NAME: a runtime plugin. It runs as long as the server does; what it prints appears in the server's log.

The standard library is enough. The file beside this one, PLUGIN_NAME.py.plugin.toml, says how it is kept running.
"""

import json
import os
import signal
import sys
import threading

INTERVAL_S = 30.0


def read_config() -> dict:
    """The server's configuration. The file always has all of it; the variable is shortened when it is very large."""
    path = os.environ.get("LMCACHE_RUNTIME_PLUGIN_CONFIG_FILE", "")
    if path and os.access(path, os.R_OK):
        with open(path, encoding="utf-8") as file:
            text = file.read()
    else:
        text = os.environ.get("LMCACHE_RUNTIME_PLUGIN_CONFIG", "")
    config = json.loads(text or "{}")
    if not isinstance(config, dict):
        raise ValueError("it is no JSON object")
    return config


def own_settings(config: dict) -> dict:
    """The keys `plugin.PLUGIN_NAME.*` of --runtime-plugin-config, without their prefix."""
    extra = config.get("runtime_plugin_extra_config") or config.get("extra_config") or {}
    prefix = "plugin.PLUGIN_NAME."
    return {key[len(prefix):]: value for key, value in extra.items() if key.startswith(prefix)}


def work(config: dict) -> None:
    """What the plugin is for. Give everything that can wait a timeout."""
    http = config.get("http_config") or {}
    print(f"the server's HTTP is on {http.get('http_host')}:{http.get('http_port')}", flush=True)


def hear(event: dict) -> None:
    """An event of a kind that `events` in the manifest asks for; docs/reference/events.md says what is in it."""
    print(f"event: {json.dumps(event)}", flush=True)


def read_input(stop: threading.Event) -> None:
    """Standard input has one event a line, if the manifest asks for any; its end means that it is time to end."""
    rest = b""
    # The descriptor itself: a thread inside `sys.stdin` would be in the way when Python exits.
    while read := os.read(0, 65536):
        *lines, rest = (rest + read).split(b"\n")
        for line in lines:
            try:
                hear(json.loads(line))
            except ValueError as error:
                print(f"no event: {error}", file=sys.stderr, flush=True)
    stop.set()


def main() -> int:
    # Two ways to hear that it is time to end: a signal, and the end of standard input.
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    threading.Thread(target=read_input, args=(stop,), daemon=True).start()

    try:
        config = read_config()
        interval_s = max(1.0, float(own_settings(config).get("interval_s", INTERVAL_S)))
    except (OSError, TypeError, ValueError) as error:
        print(f"cannot use the configuration: {error}", file=sys.stderr, flush=True)
        return 2

    print("started", flush=True)
    while True:
        try:
            work(config)
        except OSError as error:
            # One failure is no reason to give up; the next round tries again.
            print(f"failed: {error}", file=sys.stderr, flush=True)
        if stop.wait(interval_s):
            break
    # The signal may come after the end of standard input; it should not cut the ending short.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    print("stopped", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
