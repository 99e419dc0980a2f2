#!/bin/bash
# Runtime plugin for the multiprocess server: takes fields of its configuration with jq and reports that it is alive.
# Without jq it says so and goes on.

name=mp_heartbeat
interval=30
beat=0

say() { printf '[%s] %s\n' "$name" "$*"; }

# The file holds all of the configuration; the variable may be shortened when it is very large. Older servers set the variable only.
config() {
    if [ -r "${LMCACHE_RUNTIME_PLUGIN_CONFIG_FILE:-}" ]; then
        cat "$LMCACHE_RUNTIME_PLUGIN_CONFIG_FILE"
    else
        printf '%s' "${LMCACHE_RUNTIME_PLUGIN_CONFIG:-{\}}"
    fi
}

# One value of the configuration, e.g. `field '.mp_config.port'`; empty where it is missing.
field() { config | jq -r "$1 // empty" 2>/dev/null; }

describe() {
    if ! command -v jq >/dev/null; then
        say "jq not found: configuration fields are not shown"
        return
    fi
    local masked
    masked=$(config | jq -c 'walk(if type == "object" then with_entries(
        if (.key | test("secret|passw|credential|api_?key|access_?key|auth"; "i")) and .value != "" and .value != null
        then .value = "***" else . end) else . end)' 2>/dev/null) || masked="not valid JSON"
    say "config: $masked"
    say "server: $(field '.mp_config.host'):$(field '.mp_config.port') instance $(field '.mp_config.instance_id')"
    local wanted
    wanted=$(field '.runtime_plugin_extra_config["plugin.mp_heartbeat.interval"]')
    [[ $wanted =~ ^[0-9]+(\.[0-9]+)?$ ]] && interval=$wanted
}

# Waits for the next beat; fails when the server has closed our input or gone away.
pause() {
    if [ -p /dev/stdin ]; then
        # Reading as a clock needs no `sleep` process; a status above 128 means that the time is up.
        read -r -t "$interval" _ || [ $? -gt 128 ]
    else
        sleep "$interval" &
        wait $!
        kill -0 "$PPID" 2>/dev/null
    fi
}

finish() {
    # The signal may come after the end of standard input.
    trap '' TERM INT
    say "Stopped"
    # The `sleep` of a pause.
    kill $(jobs -p) 2>/dev/null
    exit 0
}
trap finish TERM INT

say "Started"
describe
while :; do
    say "heartbeat #$beat"
    beat=$((beat + 1))
    pause || finish
done
