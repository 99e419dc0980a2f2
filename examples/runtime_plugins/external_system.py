#!/usr/bin/env python3
"""Writes the server's events into an external system: an SQLite database, where they can be queried with SQL for days.

The position in the event feed is kept with the data, in the same transaction, so that nothing is written twice or left out when the plugin
is restarted; what the server had to drop in the meantime is a row of its own.

Settings: plugin.external_system.path (lmcache-events.sqlite), .kinds (all), .rows_max (1,000,000).
"""

import json
import sqlite3

import _plugin as plugin

SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    incarnation TEXT, seq INTEGER, time REAL, kind TEXT, body TEXT, PRIMARY KEY (incarnation, seq, kind)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS events_by_time ON events (time);
"""
INSERT = "INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?, ?)"
TRIM = "DELETE FROM events WHERE time < (SELECT time FROM events ORDER BY time DESC LIMIT 1 OFFSET ?)"
#: Rows between two looks at the size of the table.
TRIM_EVERY = 1_000


def incarnation(config: dict) -> str:
    """Return what tells this run of the server from others: positions begin anew with each."""
    status = json.loads(plugin.request(f"{plugin.server_url(config)}/status"))
    return str(status["kv_events"]["incarnation"])


def run(config: dict) -> int:
    own = plugin.settings(config, path="lmcache-events.sqlite", kinds="", rows_max=1_000_000)
    try:
        run_of_server = incarnation(config)
    except (OSError, ValueError, KeyError) as error:
        plugin.say(f"the server does not say who it is: {error}", level=3)
        return 1
    with sqlite3.connect(own["path"], timeout=5.0) as database:
        database.executescript(SCHEMA)
    newest = "SELECT max(seq) FROM events WHERE incarnation = ?"
    (cursor,) = database.execute(newest, (run_of_server,)).fetchone()
    plugin.say(f"writing to {own['path']} from position {cursor or 0}")
    rows = 0
    # From the beginning of what the server still has, where nothing is known yet.
    for kind, position, event in plugin.events(config, own["kinds"], cursor or 0):
        row = (run_of_server, position, event.get("time"), kind, json.dumps(event))
        with database:
            database.execute(INSERT, row)
            rows += 1
            if rows % TRIM_EVERY == 0:
                database.execute(TRIM, (int(own["rows_max"]),))
    return 0


plugin.main(run)
