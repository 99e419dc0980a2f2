#!/usr/bin/env python3
"""Raises an alert when the server evicts too much, through the control channel."""

import json
import os
import socket
import time

LIMIT = int(json.loads(os.environ["LMCACHE_RUNTIME_PLUGIN_SETTINGS"])["evictions_per_minute"])

channel = socket.socket(fileno=int(os.environ["LMCACHE_RUNTIME_PLUGIN_CONTROL_FD"]))
lines = channel.makefile("r")


def send(method, params, **with_id):
    request = {"jsonrpc": "2.0", "method": method, "params": params, **with_id}
    channel.sendall((json.dumps(request) + "\n").encode())


send("hello", {"versions": [1]}, id=1)
print("[watch_evictions] hello:", json.loads(lines.readline())["result"]["capabilities"], flush=True)
send("subscribe", {"kinds": ["evict"]}, id=2)
print("[watch_evictions] subscribed:", json.loads(lines.readline())["result"]["kinds"], flush=True)

begun, count = time.monotonic(), 0
for line in lines:
    message = json.loads(line)
    if time.monotonic() - begun > 60:
        begun, count = time.monotonic(), 0
    if message["method"] == "event":
        count += 1
    elif message["method"] == "dropped":
        count += message["params"]["count"]
    if count == LIMIT:
        send("alert", {"severity": "error", "text": f"{count} evictions within a minute"})
