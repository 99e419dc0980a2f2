#!/usr/bin/env python3
"""Steers what leaves the cache, through hooks: keeps the prompts it is told to in memory, lets bulk tenants go first, and keeps them out of the second tier.

Hints are advice with an end: this plugin renews them, and if it hangs or dies the server goes on as if it had never been there.
"""

import json
import os
import socket

SETTINGS = json.loads(os.environ["LMCACHE_RUNTIME_PLUGIN_SETTINGS"])
TTL_S = SETTINGS["ttl_s"]

channel = socket.socket(fileno=int(os.environ["LMCACHE_RUNTIME_PLUGIN_CONTROL_FD"]))
channel.settimeout(TTL_S / 2)
waiting = b""
sent = 0


def say(text):
    print(f"[steer_cache] {text}", flush=True)


def send(method, params):
    global sent
    sent += 1
    channel.sendall((json.dumps({"jsonrpc": "2.0", "id": sent, "method": method, "params": params}) + "\n").encode())


def receive():
    """Return the next message; None when it is time to renew. Ends with the channel."""
    global waiting
    while b"\n" not in waiting:
        try:
            read = channel.recv(65536)
        except TimeoutError:
            return None
        if not read:
            raise SystemExit(0)
        waiting += read
    line, waiting = waiting.split(b"\n", 1)
    return json.loads(line)


def advise():
    if SETTINGS["keep_chunks"]:
        send("hint", {"action": "protect", "chunk_hashes": SETTINGS["keep_chunks"], "ttl_s": TTL_S})
    for salt in SETTINGS["bulk_salts"]:
        send("hint", {"action": "evict_first", "cache_salt": salt, "ttl_s": TTL_S})
        send("hint", {"action": "decline_l2", "cache_salt": salt, "ttl_s": TTL_S})


send("hello", {"versions": [1]})
say(f"hooks: {receive()['result']['hooks']}")
send("subscribe", {"kinds": ["pressure"]})
advise()
while True:
    message = receive()
    if message is None:
        advise()
    elif "error" in message:
        say(f"refused: {message['error']['message']}")
    elif message.get("method") == "event":
        event = message["params"]["event"]
        say(f"memory is {event['used_bytes'] / event['capacity_bytes']:.0%} full")
