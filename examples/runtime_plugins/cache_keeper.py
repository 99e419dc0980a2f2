#!/usr/bin/env python3
"""Keeps the cache by rules of its own, through the admin API: drops models that are not served any more, and empties memory that stays full.

Settings: plugin.cache_keeper.drop_models (list of names), .clear_above (share of memory in use, 0 to 1), .interval (60 s; the manifest
beside it runs it by schedule instead).
"""

import json
import os
from urllib.parse import urlencode

import _plugin as plugin

PAGE_SIZE = 500


def drop(server: str, model_name: str) -> int:
    """Delete the objects of one model that nobody holds; returns how many there were."""
    deleted = 0
    page_token = None
    while not plugin.stop.is_set():
        query = {"tier": "l1", "model_name": model_name, "page_size": PAGE_SIZE}
        if page_token:
            query["page_token"] = page_token
        page = json.loads(plugin.request(f"{server}/cache/objects?{urlencode(query)}"))
        keys = [entry["key"] for entry in page["entries"]]
        if keys:
            answer = plugin.request(f"{server}/cache/objects", {"tier": "l1", "keys": keys}, method="DELETE")
            deleted += json.loads(answer)["deleted"]
        page_token = page.get("next_page_token")
        if not page_token:
            break
    return deleted


def usage(server: str) -> float:
    """Return the share of memory in use."""
    status = json.loads(plugin.request(f"{server}/status"))
    return status["storage_manager"]["l1_manager"]["memory_usage_ratio"]


def keep(server: str, own: dict) -> None:
    for model_name in own["drop_models"]:
        if deleted := drop(server, model_name):
            plugin.say(f"dropped {deleted} objects of {model_name}")
    share = usage(server)
    if own["clear_above"] is not None and share > float(own["clear_above"]):
        # Objects that a request is using stay.
        plugin.request(f"{server}/cache/clear", {"tier": "l1"})
        plugin.say(f"memory was {share:.0%} full: cleared, now {usage(server):.0%}")


def run(config: dict) -> int:
    own = plugin.settings(config, drop_models=[], clear_above=None, interval=60.0)
    once = bool(os.environ.get("CACHE_KEEPER_ONCE"))
    plugin.say("started")
    while True:
        try:
            keep(plugin.server_url(config), own)
        except (OSError, ValueError, KeyError) as error:
            plugin.say(f"{type(error).__name__}: {error}", level=4)
            if once:
                return 1
        if once or plugin.stop.wait(float(own["interval"])):
            return 0


plugin.main(run)
