#!/usr/bin/env python3
"""Runtime plugin that runs only beside a scheduler: its file name begins with `scheduler_`."""

import json
import os
import signal
import sys
import threading


def main() -> int:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())

    role = os.environ.get("LMCACHE_RUNTIME_PLUGIN_ROLE") or "(none)"
    try:
        config = json.loads(os.environ.get("LMCACHE_RUNTIME_PLUGIN_CONFIG") or "{}")
    except ValueError as error:
        print(f"[scheduler_foo_plugin] configuration is not valid JSON: {error}", flush=True)
        return 2
    print(f"[scheduler_foo_plugin] running as {role}, {len(config)} configuration keys", flush=True)
    parent = os.getppid()
    while os.getppid() == parent and not stop.wait(10.0):
        print("[scheduler_foo_plugin] still here", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
