#!/bin/bash
# Runtime plugin that prints the events its manifest asks for. The server writes one JSON object a line to standard input
# and closes it when the plugin should end.

count=0
while read -r event; do
    count=$((count + 1))
    echo "[event_log] #$count $event"
done
echo "[event_log] $count events"
