#!/bin/bash
# PLUGIN_NAME: a runtime plugin. It runs as long as the server does; what it prints appears in the server's log.
# The file beside this one, PLUGIN_NAME.sh.plugin.toml, says how it is kept running.

interval_s=30

say() { printf '[PLUGIN_NAME] %s\n' "$*"; }

# The server's configuration, as JSON. The file always has all of it; the variable is shortened when it is very large.
config() {
    if [ -r "${LMCACHE_RUNTIME_PLUGIN_CONFIG_FILE:-}" ]; then
        cat "$LMCACHE_RUNTIME_PLUGIN_CONFIG_FILE"
    else
        printf '%s' "${LMCACHE_RUNTIME_PLUGIN_CONFIG:-{\}}"
    fi
}

# One value of it, such as `field '.http_config.http_port'`; nothing where it is missing or jq is not installed.
field() { config | jq -r "$1 // empty" 2>/dev/null; }

# What the plugin is for. Give everything that can wait a timeout, as in `curl --max-time 5`.
work() { say "the server's HTTP port is $(field '.http_config.http_port')"; }

# An event of a kind that `events` in the manifest asks for, as JSON; docs/reference/events.md says what is in it.
hear() { say "event: $1"; }

finish() {
    # The signal may come after the end of standard input.
    trap '' TERM INT
    say "stopped"
    exit 0
}
trap finish TERM INT

# Own settings come from --runtime-plugin-config '{"plugin.PLUGIN_NAME.interval_s": 10}'.
wanted=$(field '.runtime_plugin_extra_config["plugin.PLUGIN_NAME.interval_s"]')
[[ $wanted =~ ^[1-9][0-9]*$ ]] && interval_s=$wanted

say "started"
work
next=$((SECONDS + interval_s))
while :; do
    # Reading standard input is the clock: no `sleep` process is left behind, and its end means that the server is stopping. Each line is an
    # event; a status above 128 says that the time is up.
    if read -r -t "$((next > SECONDS ? next - SECONDS : 1))" event; then
        hear "$event"
    elif [ $? -le 128 ]; then
        finish
    fi
    if [ "$SECONDS" -ge "$next" ]; then
        work
        next=$((SECONDS + interval_s))
    fi
done
