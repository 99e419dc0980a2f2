"""What the Python examples have in common: settings, the server's address, requests with a time limit, and an end.

Standard library only. Not run itself, since its name begins with `_`; copy it along with an example.
"""

import json
import os
import signal
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Callable, Iterator

#: Set by SIGTERM and SIGINT. Wait on it instead of sleeping.
stop = threading.Event()
NAME = Path(sys.argv[0]).stem
REQUEST_TIMEOUT_S = 5.0


def say(text: str, level: int = 6) -> None:
    """Print one line; the server logs it. The level is syslog's: 3 is an error, 4 a warning, 6 information, 7 debugging."""
    print(f"<{level}>[{NAME}] {text}" if level != 6 else f"[{NAME}] {text}", flush=True)


def load_config() -> dict:
    """Return the configuration. The file is always complete; other servers set the variable only."""
    path = os.environ.get("LMCACHE_RUNTIME_PLUGIN_CONFIG_FILE")
    text = Path(path).read_text(encoding="utf-8") if path else os.environ.get("LMCACHE_RUNTIME_PLUGIN_CONFIG", "{}")
    return json.loads(text)


def settings(config: dict, **defaults: object) -> dict:
    """Return `plugin.<name>.<key>` for every key of `defaults`, from a server's or an engine's configuration; `-` and `_` are the same."""
    extra = config.get("runtime_plugin_extra_config") or config.get("extra_config") or {}
    prefix = f"plugin.{NAME}."
    own = {key.removeprefix(prefix).replace("-", "_"): value for key, value in extra.items() if key.startswith(prefix)}
    for key in own.keys() - defaults.keys():
        say(f"`{prefix}{key}` is unknown and ignored", level=4)
    return defaults | {key: value for key, value in own.items() if key in defaults}


def server_pid() -> int:
    """Return the server's process. Our parent is that of other servers only: this one starts plugins through a process between."""
    return int(os.environ.get("LMCACHE_RUNTIME_PLUGIN_SERVER_PID") or os.getppid())


def server_url(config: dict) -> str:
    """Return the address of the server's HTTP API as seen from this machine."""
    http = config.get("http_config") or {}
    host = http.get("http_host", "127.0.0.1")
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}.get(host, host)
    return f"http://{host}:{http.get('http_port', 8080)}"


def request(url: str, data: object = None, method: str | None = None) -> bytes:
    """Return the answer's body. Bytes are sent as they are, anything else as JSON. Raises OSError for whatever goes wrong."""
    headers = {}
    if data is not None and not isinstance(data, bytes):
        data, headers = json.dumps(data).encode(), {"Content-Type": "application/json"}
    call = urllib.request.Request(url, data=data, headers=headers, method=method)
    with urllib.request.urlopen(call, timeout=REQUEST_TIMEOUT_S) as answer:
        return answer.read()


def events(
    config: dict, kinds: str = "", cursor: int | None = None, connected: Callable[[], None] = lambda: None
) -> Iterator[tuple[str, int, dict]]:
    """Yield (kind, position, event) of the server's event feed, reconnecting where it broke off, until the end.

    Whatever happens after `connected` was called is told. A `lost` event says how many events came faster than they were read.
    """
    pause_s = 0.1
    while not stop.wait(pause_s):
        query = "&".join([f"kinds={kinds}"] * bool(kinds) + [f"cursor={cursor}"] * (cursor is not None))
        try:
            with urllib.request.urlopen(f"{server_url(config)}/events?{query}", timeout=60.0) as feed:
                say("following the events")
                connected()
                kind, pause_s = "", 0.1
                for line in feed:
                    field, _, value = line.decode().rstrip("\n").partition(": ")
                    if field == "id":
                        cursor = int(value)
                    elif field == "event":
                        kind = value
                    elif field == "data":
                        yield kind, cursor or 0, json.loads(value)
        except (OSError, ValueError) as error:
            pause_s = min(pause_s * 2, 10.0)
            say(f"event feed: {error}", level=4)


def main(run: Callable[[dict], int]) -> None:
    """Run `run(config)` until it returns or a signal ends it; the exit code says how it went."""

    def end(*_: object) -> None:
        stop.set()
        # Whoever waits for the network would not see the event.
        raise SystemExit(0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    try:
        config = load_config()
    except (OSError, ValueError) as error:
        say(f"configuration cannot be read: {error}", level=3)
        sys.exit(2)
    sys.exit(run(config))
