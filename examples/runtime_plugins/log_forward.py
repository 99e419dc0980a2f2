#!/usr/bin/env python3
"""Forwards what happens to an HTTP collector, as newline-delimited JSON: the server's events, and its log where that is in a file.

Settings: plugin.log_forward.url (required), .file (the log file, followed through rotation), .batch (500 records), .interval (1 s).
"""

import json
import os
import queue
import threading
import time

import _plugin as plugin

#: Records kept while the collector is slow or away; more are dropped and counted.
QUEUE_MAX = 10_000

records: queue.Queue = queue.Queue(QUEUE_MAX)
dropped = 0


def keep(record: dict) -> None:
    global dropped
    try:
        records.put_nowait({"time": time.time(), **record})
    except queue.Full:
        dropped += 1


def read_events(config: dict) -> None:
    for kind, _, event in plugin.events(config):
        keep({"source": "events", "kind": kind, **event})


def read_file(path: str) -> None:
    """Follow a file from its end; a new file under the same name is read from its beginning."""
    file, inode = None, None
    while not plugin.stop.wait(0.2):
        try:
            if file is None or os.stat(path).st_ino != inode:
                first = file is None
                file = open(path, encoding="utf-8", errors="replace")
                inode = os.fstat(file.fileno()).st_ino
                if first:
                    file.seek(0, os.SEEK_END)
                    plugin.say(f"following {path}")
            while line := file.readline():
                keep({"source": path, "line": line.rstrip("\n")})
        except OSError as error:
            plugin.say(f"{path}: {error}", level=4)
            plugin.stop.wait(10.0)


def run(config: dict) -> int:
    global dropped
    own = plugin.settings(config, url=None, file=None, batch=500, interval=1.0)
    if not own["url"]:
        plugin.say("`plugin.log_forward.url` is missing", level=3)
        return 2
    threading.Thread(target=read_events, args=(config,), daemon=True).start()
    if own["file"]:
        threading.Thread(target=read_file, args=(own["file"],), daemon=True).start()
    unsent: list[dict] = []
    while not plugin.stop.wait(float(own["interval"])):
        while len(unsent) < int(own["batch"]) and not records.empty():
            unsent.append(records.get())
        if not unsent:
            continue
        try:
            plugin.request(own["url"], "".join(json.dumps(record) + "\n" for record in unsent).encode())
            unsent = []
        except OSError as error:
            # Tried again with the next turn; meanwhile the queue takes what comes.
            plugin.say(f"{len(unsent)} records wait: {error}", level=4)
        if dropped:
            plugin.say(f"dropped {dropped} records", level=4)
            dropped = 0
    return 0


plugin.main(run)
