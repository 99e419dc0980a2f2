"""What tests of runtime plugins have in common: scripts, the server's log, waiting, and somebody for plugins to talk to."""

from __future__ import annotations

import http.server
import json
import os
import pathlib
import re
import signal
import stat
import threading
import urllib.parse
from typing import Any

from .wait import until


def plain_log(server: Any) -> str:
    """The server's log without colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", server.log())


def wait_for_line(server: Any, text: str) -> None:
    until(lambda: text in plain_log(server), f"`{text}` in the log")


def running(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text[text.rindex(")") + 2] not in "ZX"


def end(pids: list[int]) -> None:
    """Kills what is left of these processes."""
    for pid in filter(running, pids):
        os.kill(pid, signal.SIGKILL)


def script(folder: pathlib.Path, name: str, text: str) -> pathlib.Path:
    """Writes an executable file."""
    path = folder / name
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


class Sink:
    """An HTTP server that takes everything and keeps it."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        #: The answer's status; anything but 200 is a failure to the caller.
        self.status = 200
        sink = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def take(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                parts = urllib.parse.urlsplit(self.path)
                query = dict(urllib.parse.parse_qsl(parts.query))
                status = sink.status
                if status == 200:
                    sink.requests.append({"method": self.command, "path": parts.path, "query": query, "body": body.decode()})
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_POST = do_PUT = take

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def records(self) -> list[dict[str, Any]]:
        """Every JSON line of every body so far."""
        return [json.loads(line) for request in self.requests for line in request["body"].splitlines()]

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
