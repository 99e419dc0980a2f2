#!/bin/bash
# Runtime plugin that runs beside every process, whatever its role: its file name begins with `all_`.

echo "[all_plugin] role ${LMCACHE_RUNTIME_PLUGIN_ROLE:-(none)}," \
    "worker ${LMCACHE_RUNTIME_PLUGIN_WORKER_ID:-?} of ${LMCACHE_RUNTIME_PLUGIN_WORKER_COUNT:-?}"
trap 'kill $(jobs -p) 2>/dev/null; exit 0' TERM INT
while kill -0 "$PPID" 2>/dev/null; do
    echo "[all_plugin] load $(cut -d ' ' -f 1 /proc/loadavg)"
    # In the background, so that a signal is handled at once.
    sleep 10 &
    wait $!
done
