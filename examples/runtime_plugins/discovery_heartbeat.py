#!/usr/bin/env python3
"""Registers this server with a discovery service by heartbeats, in the form that LMCache's frontends use: a GET with the server's address,
process id, version and further information as its query.

Settings: plugin.discovery_heartbeat.heartbeat_url (required), .heartbeat_interval (30 s), .heartbeat_initial_delay (0 s), .report_host.
Keys may be written with `-` for `_`, and as `plugin.frontend.*`, as LMCache's frontend plugin has them.
"""

import json
import socket
from urllib.parse import urlencode, urlsplit

import _plugin as plugin


def with_frontend_keys(config: dict) -> dict:
    """Return the configuration with `plugin.frontend.*` copied to this plugin's keys where those are not given."""
    extra = config.get("runtime_plugin_extra_config") or config.get("extra_config") or {}
    ours, theirs = f"plugin.{plugin.NAME}.", "plugin.frontend."
    known = ("heartbeat_url", "heartbeat_interval", "heartbeat_initial_delay", "report_host")
    copied = {
        ours + key.removeprefix(theirs): value
        for key, value in extra.items()
        if key.startswith(theirs) and key.removeprefix(theirs).replace("-", "_") in known
    }
    return config | {"runtime_plugin_extra_config": copied | extra}


def address_towards(url: str) -> str:
    """Return the address of this machine that the discovery service can see. Nothing is sent."""
    parts = urlsplit(url)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((parts.hostname, parts.port or 80))
        return probe.getsockname()[0]


def beat(url: str, own: dict, config: dict) -> None:
    here = plugin.server_url(config)
    version = json.loads(plugin.request(f"{here}/version"))
    status = json.loads(plugin.request(f"{here}/status"))
    host = own["report_host"] or address_towards(url)
    query = {
        "api_address": f"http://{host}:{urlsplit(here).port}",
        "pid": plugin.server_pid(),
        "version": version,
        "other_info": json.dumps({"is_healthy": status.get("is_healthy"), "chunk_size": status.get("chunk_size")}),
    }
    plugin.request(f"{url}{'&' if '?' in url else '?'}{urlencode(query)}")


def run(config: dict) -> int:
    own = plugin.settings(
        with_frontend_keys(config), heartbeat_url=None, heartbeat_interval=30, heartbeat_initial_delay=0, report_host=None
    )
    url = own["heartbeat_url"]
    if not url:
        plugin.say("no `heartbeat_url`: nothing to register with")
        return 0
    plugin.say(f"registering with {url} every {own['heartbeat_interval']} s")
    registered = None
    pause_s = float(own["heartbeat_initial_delay"])
    while not plugin.stop.wait(pause_s):
        try:
            beat(url, own, config)
            outcome = "registered"
        except OSError as error:
            outcome = f"not registered: {error}"
        if outcome != registered:
            plugin.say(outcome, level=6 if outcome == "registered" else 4)
        registered = outcome
        pause_s = float(own["heartbeat_interval"])
    return 0


plugin.main(run)
