#!/bin/bash
# Runtime plugin that runs beside worker 0 only: role, worker and description are the three parts of its file name.

if [ "${LMCACHE_RUNTIME_PLUGIN_WORKER_ID:-0}" != 0 ]; then
    echo "[worker_0_test] started beside the wrong worker" >&2
    exit 1
fi
echo "[worker_0_test] worker 0 is up"
