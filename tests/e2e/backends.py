"""Storage for the second tier of a test: a directory, a Redis server, an S3 server. Each yields the adapter's JSON."""

from __future__ import annotations

import contextlib
import pathlib
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator

import pytest

from mpkit.process import free_port

START_S = 60.0


@contextlib.contextmanager
def directory(folder: pathlib.Path) -> Iterator[dict]:
    yield {"type": "fs", "base_path": str(folder / "kv")}


@contextlib.contextmanager
def redis(folder: pathlib.Path) -> Iterator[dict]:
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("`redis-server` is not installed (Debian package redis-server)")
    port = free_port()
    command = [program, "--port", str(port), "--save", "", "--appendonly", "no", "--dir", str(folder)]
    with running(command, folder / "redis.log", lambda: connects(port)):
        yield {"type": "resp", "host": "127.0.0.1", "port": port}


@contextlib.contextmanager
def s3(folder: pathlib.Path) -> Iterator[dict]:
    if subprocess.run([sys.executable, "-c", "import moto.server"], capture_output=True).returncode != 0:
        pytest.skip("the S3 server is not installed (PyPI package moto[server])")
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with running(command, folder / "s3.log", lambda: connects(port)):
        bucket = urllib.request.Request(f"http://127.0.0.1:{port}/kv-cache", method="PUT")
        urllib.request.urlopen(bucket, timeout=START_S).close()
        yield {
            "type": "s3", "s3_endpoint": f"127.0.0.1:{port}", "s3_bucket": "kv-cache", "s3_region": "us-east-1",
            "disable_tls": True, "aws_access_key_id": "id", "aws_secret_access_key": "secret",
        }


BACKENDS = {"fs": directory, "redis": redis, "s3": s3}


def connects(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@contextlib.contextmanager
def running(command: list[str], log_path: pathlib.Path, ready: Callable[[], bool]) -> Iterator[None]:
    with open(log_path, "wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + START_S
        while not ready():
            ended = process.poll()
            assert ended is None and time.monotonic() < deadline, f"{command[0]}: {ended}\n{log_path.read_text()}"
            time.sleep(0.02)
        yield
    finally:
        process.kill()
        process.wait()
