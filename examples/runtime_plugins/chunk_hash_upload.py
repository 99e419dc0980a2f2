#!/usr/bin/env python3
"""Uploads the hashes of cached chunks to an address, so that a router can send prompts to the node that has their KV.

The event feed says when something was stored, evicted or cleared; then the node's objects are listed, and what is new or gone since the last
upload is sent as `{"instance_id", "added": [...], "removed": [...]}`. The first upload names everything.

Settings: plugin.chunk_hash_upload.url (required), .settle (0.5 s: changes of that time are sent together).
"""

import json
import threading

import _plugin as plugin

PAGE_SIZE = 500
changed = threading.Event()


def follow(config: dict) -> None:
    for _ in plugin.events(config, "store,evict,clear,l2_load", connected=changed.set):
        changed.set()


def hashes(config: dict) -> set[str]:
    """Return the hashes of all chunks in memory."""
    found: set[str] = set()
    query = f"tier=l1&page_size={PAGE_SIZE}"
    page_token = None
    while True:
        tail = f"&page_token={page_token}" if page_token else ""
        page = json.loads(plugin.request(f"{plugin.server_url(config)}/cache/objects?{query}{tail}"))
        found.update(entry["key"]["chunk_hash_hex"] for entry in page["entries"])
        page_token = page.get("next_page_token")
        if not page_token:
            return found


def run(config: dict) -> int:
    own = plugin.settings(config, url=None, settle=0.5)
    if not own["url"]:
        plugin.say("`plugin.chunk_hash_upload.url` is missing", level=3)
        return 2
    instance_id = (config.get("mp_config") or {}).get("instance_id")
    threading.Thread(target=follow, args=(config,), daemon=True).start()
    known: set[str] = set()
    while True:
        # In steps, so that a signal is handled between them.
        while not changed.wait(1.0):
            pass
        plugin.stop.wait(float(own["settle"]))
        changed.clear()
        try:
            now = hashes(config)
            added, removed = sorted(now - known), sorted(known - now)
            if added or removed:
                plugin.request(own["url"], {"instance_id": instance_id, "added": added, "removed": removed})
                plugin.say(f"uploaded {len(added)} added, {len(removed)} removed")
            known = now
        except (OSError, ValueError, KeyError) as error:
            plugin.say(f"not uploaded: {error}", level=4)
            changed.set()
            plugin.stop.wait(5.0)


plugin.main(run)
