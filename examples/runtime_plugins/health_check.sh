#!/bin/bash
# Asks the server for its health and says when it changes: in the log, and in a file that a load balancer or a probe can read. Needs
# nothing but Bash.
#
# Settings: plugin.health_check.interval (10 s), .failures (3 in a row until it counts as unhealthy), .state_file (none),
# .path (/healthcheck).

config=${LMCACHE_RUNTIME_PLUGIN_CONFIG:-}

# One value of the configuration, or the default. Good enough for numbers and plain texts.
setting() {
    local pattern="\"$1\": ?\"?([^\",}]+)"
    if [[ $config =~ $pattern ]]; then echo "${BASH_REMATCH[1]}"; else echo "$2"; fi
}

host=$(setting http_host 127.0.0.1)
[ "$host" = 0.0.0.0 ] && host=127.0.0.1
port=$(setting http_port 8080)
interval=$(setting plugin.health_check.interval 10)
failures_max=$(setting plugin.health_check.failures 3)
state_file=$(setting plugin.health_check.state_file "")
path=$(setting plugin.health_check.path /healthcheck)

# The status line of a GET, within two seconds; a server that hangs is not healthy.
status_line() {
    exec 3<>"/dev/tcp/$host/$port" || return
    printf 'GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' "$path" "$host" >&3
    read -r -t 2 line <&3
    exec 3>&-
    printf '%s' "${line%$'\r'}"
} 2>/dev/null

state=unknown
become() {
    [ "$state" = "$1" ] && return
    [ "$1" = healthy ] && level=5 || level=3
    echo "<$level>[health_check] $state -> $1${2:+: $2}"
    state=$1
    if [ -n "$state_file" ]; then
        # Renamed into place, so that no reader sees half of it.
        echo "$state" >"$state_file.part" && mv "$state_file.part" "$state_file"
    fi
}

trap 'become stopped; kill $(jobs -p) 2>/dev/null; exit 0' TERM INT
echo "[health_check] asking http://$host:$port$path every $interval s"
failures=0
while :; do
    answer=$(status_line)
    if [[ $answer == "HTTP/1.1 200"* ]]; then
        failures=0
        become healthy
    else
        failures=$((failures + 1))
        [ "$failures" -ge "$failures_max" ] && become unhealthy "${answer:-no answer}"
    fi
    # A sign of life for the watchdog in the manifest, at a level that logs leave out.
    echo "<7>[health_check] $state"
    sleep "$interval" &
    wait $!
done
