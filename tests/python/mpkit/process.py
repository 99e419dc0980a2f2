"""Starting, watching and ending a server process."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import random
import shlex
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from typing import Any

from . import wire

READY_S = 120.0
STOP_S = 30.0
SHM = pathlib.Path("/dev/shm")
POOL_PREFIX = "lmcache_l1_pool_"


class StartFailed(Exception):
    """The server ended, or never answered; carries its log."""


# Below what Linux gives to outgoing connections (32768 and up), so that none takes a port between its choice and its use.
_PORTS = random.sample(range(15000, 32000), 17000)


def free_port() -> int:
    """A port that nobody listens on, and that this process was never given before."""
    while True:
        port = _PORTS.pop()
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


def http(port: int, path: str, method: str = "GET", body: Any = None) -> tuple[int, str]:
    """Status and text of one HTTP exchange; an error status is a result, not an exception."""
    data = None if body is None else json.dumps(body).encode()
    headers = {} if data is None else {"Content-Type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=data, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=wire.ANSWER_S) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


class Server:
    """One server process, from a command line such as `larder server` or `lmcache server`."""

    def __init__(self, name: str, command: str, folder: pathlib.Path, flags: list[str], *,
                 shm_name: str = "", env: dict[str, str] | None = None) -> None:
        self.name = name
        self.port, self.http_port = free_port(), free_port()
        self.shm_name = shm_name
        self.log_path = folder / f"{name}-{self.port}.log"
        self.command = shlex.split(command) + [
            "--host", "127.0.0.1", "--port", str(self.port), "--http-port", str(self.http_port),
            "--shm-name", shm_name, *flags,
        ]
        self.environment = dict(os.environ, LMCACHE_TRACK_USAGE="false", LMCACHE_DISABLE_BANNER="1") | (env or {})
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def is_ours(self) -> bool:
        return self.name == "larder"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def endpoint(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    @property
    def pool_path(self) -> pathlib.Path:
        return SHM / (POOL_PREFIX + self.shm_name)

    def spawn(self) -> Server:
        """Starts the process without waiting for an answer."""
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                env=self.environment, start_new_session=True)
        return self

    def start(self) -> Server:
        """Starts the process and waits until both of its ports answer."""
        self.spawn()
        deadline = time.monotonic() + READY_S
        while not (self._answers_rpc() and self._answers_http()):
            if self.process is not None and self.process.poll() is not None:
                raise StartFailed(f"exit {self.process.returncode}\n{self.log()[-4000:]}")
            if time.monotonic() > deadline:
                log = self.log()[-4000:]
                self.kill()
                raise StartFailed(f"not ready after {READY_S} s\n{log}")
            time.sleep(0.02)
        return self

    def _answers_rpc(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            with self.client() as client:
                return client.outcome("noop", patience_s=2.0) == "OK"
        return False

    def _answers_http(self) -> bool:
        try:
            return self.http("/healthcheck")[0] == 200
        except OSError:
            return False

    def client(self) -> wire.Client:
        return wire.Client(self.endpoint)

    def http(self, path: str, method: str = "GET", body: Any = None) -> tuple[int, str]:
        return http(self.http_port, path, method, body)

    def status(self) -> dict[str, Any]:
        """The body of GET /status."""
        code, text = self.http("/status")
        assert code == 200, text
        return json.loads(text)

    def alive(self) -> bool:
        """Whether a new, well-behaved client is served."""
        with self.client() as client:
            return client.outcome("noop", patience_s=3.0) == "OK"

    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def stop(self) -> int:
        """SIGTERM and the exit status; a server that ignores it is killed and reported as -9."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.process.returncode

    def kill(self) -> None:
        """SIGKILL, and nothing tidied: what a crash leaves behind."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> Server:
        return self if self.process else self.start()

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.stop()
        with contextlib.suppress(FileNotFoundError):
            if self.shm_name:
                self.pool_path.unlink()
