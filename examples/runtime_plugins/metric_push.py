#!/usr/bin/env python3
"""Pushes the server's metrics to a Prometheus Pushgateway, for networks in which nobody can scrape the server.

Settings: plugin.metric_push.url (required), .interval (15 s), .job ("lmcache"), .instance (the server's instance id).
"""

from urllib.parse import quote

import _plugin as plugin


def run(config: dict) -> int:
    own = plugin.settings(config, url=None, interval=15, job="lmcache", instance=None)
    if not own["url"]:
        plugin.say("`plugin.metric_push.url` is missing", level=3)
        return 2
    instance = own["instance"] or (config.get("mp_config") or {}).get("instance_id") or "lmcache"
    target = f"{own['url'].rstrip('/')}/metrics/job/{quote(own['job'], safe='')}/instance/{quote(instance, safe='')}"
    plugin.say(f"pushing to {target} every {own['interval']} s")
    failed = False
    while True:
        try:
            # PUT replaces everything this instance pushed before, so that a series that is gone here is gone there.
            plugin.request(target, plugin.request(plugin.server_url(config) + "/metrics"), method="PUT")
            if failed:
                plugin.say("pushing again")
            failed = False
        except OSError as error:
            # Once, not with every attempt.
            if not failed:
                plugin.say(f"not pushed: {error}", level=4)
            failed = True
        if plugin.stop.wait(float(own["interval"])):
            return 0


plugin.main(run)
