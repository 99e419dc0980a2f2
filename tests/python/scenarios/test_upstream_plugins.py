"""LMCache's own plugins, as published, run unmodified: the frontend plugin of lmcache_frontend 0.1.12 in role mode, and the one inside lmcache
0.5.6 beside a server. Both are fetched from PyPI when the tests run.
"""

from __future__ import annotations

import importlib.util
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator

import pytest

from mpkit.plugins import Sink, wait_for_line
from mpkit.process import free_port, http
from mpkit.wait import until

FRONTEND = "lmcache_frontend==0.1.12"
#: It imports pkg_resources, which later releases no longer have.
SETUPTOOLS = "setuptools<81"
PLUGIN = "lmcache_frontend/lmcache_plugin/scheduler_lmc_frontend_plugin.py"
MP_PLUGIN = "lmcache_frontend/lmcache_mp_plugin/lmcache_mp_frontend_plugin.py"
DOWNLOAD_S = 120


def pip(*words: str) -> None:
    """Runs pip; a test whose packages cannot be had is skipped."""
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_S)
    except subprocess.TimeoutExpired:
        pytest.skip(f"PyPI does not answer within {DOWNLOAD_S} s")
    if done.returncode:
        pytest.skip(f"not to be had from PyPI: {done.stderr.strip().splitlines()[-1:]}")


@pytest.fixture(scope="session")
def frontend(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder to import the published frontend from."""
    folder = tmp_path_factory.mktemp("frontend")
    pip("download", "--no-deps", "--dest", str(folder), FRONTEND)
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder)
    pip("install", "--no-deps", "--target", str(folder), SETUPTOOLS)
    return folder


@pytest.fixture
def sink() -> Iterator[Sink]:
    opened = Sink()
    yield opened
    opened.close()


def environment(*import_from: pathlib.Path) -> dict[str, str]:
    """`python` is the interpreter that has lmcache."""
    path = f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"
    return {"PATH": path, "PYTHONPATH": ":".join(map(str, import_from)), "LMCACHE_TRACK_USAGE": "false"}


class Host:
    """`larder plugin host` beside a command that waits for its input to end."""

    def __init__(self, words: list[str], log: pathlib.Path, env: dict[str, str]) -> None:
        self.log_path = log
        with open(log, "wb") as file:
            self.process = subprocess.Popen(
                [*words, "--", "cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=file, env=os.environ | env)

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def finish(self) -> int:
        """Ends the command, and so the host."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(60)


@pytest.fixture
def host(request: pytest.FixtureRequest, tmp_path: pathlib.Path, frontend: pathlib.Path) -> Iterator:
    """A function that starts a host with the published plugin and this engine configuration."""
    commands = dict(option.split("=", 1) for option in request.config.getoption("--server"))
    if "larder" not in commands:
        pytest.skip("the role mode is tested on larder")
    binary = shlex.split(commands["larder"])[0]
    started: list[Host] = []

    def start(role: str, config: dict[str, object]) -> Host:
        plugins = tmp_path / "plugins"
        plugins.mkdir(exist_ok=True)
        shutil.copy(frontend / PLUGIN, plugins)
        file = tmp_path / "lmcache.yaml"
        file.write_text(json.dumps(config | {"runtime_plugin_locations": [str(plugins)]}))
        words = [binary, "plugin", "host", "--role", role, "--worker-count", "1", "--config", str(file)]
        started.append(Host(words, tmp_path / f"{role}.log", environment(frontend)))
        return started[-1]

    yield start
    for made in started:
        made.process.kill()
        made.process.wait()


def test_the_published_frontend_serves_beside_a_scheduler(host, sink: Sink):
    port = free_port()
    running = host("scheduler", {
        "chunk_size": 128,
        "extra_config": {
            "plugin.frontend.port": port,
            "plugin.frontend.heartbeat-url": f"{sink.url}/lmcache_heartbeat",
            "plugin.frontend.heartbeat-initial-delay": 0,
            "plugin.frontend.heartbeat-interval": 1,
        },
    })
    wait_for_line(running, "Python plugin running with role: scheduler")
    # Its own reader of the configuration takes ours.
    wait_for_line(running, "Config: {'chunk_size': 128, 'local_cpu': True,")
    assert "Error parsing" not in running.log()
    beat = until(lambda: sink.requests, "a heartbeat")[0]
    assert (beat["path"], beat["query"]["api_address"].rsplit(":", 1)[1]) == ("/lmcache_heartbeat", str(port))
    assert http(port, "/health") == (200, '{"status":"healthy","service":"lmcache-monitor"}')
    assert "<html" in http(port, "/")[1]
    nodes = json.loads(http(port, "/api/nodes")[1])["nodes"][0]["children"]
    assert any(node["name"].endswith("_scheduler") for node in nodes)
    assert running.finish() == 0
    assert "Received termination signal, exiting..." in running.log()
    assert re.search(r"Runtime plugin \S+ exited with code 0", running.log())


def test_the_published_frontend_is_not_for_workers(host):
    running = host("worker", {})
    wait_for_line(running, "scheduler_lmc_frontend_plugin.py: ")
    assert running.finish() == 0
    assert "Skipping " in running.log() and "Launched" not in running.log()


@pytest.mark.parametrize("key", ["plugin.frontend.heartbeat_url", "plugin.frontend.heartbeat-url"])
def test_the_server_s_frontend_plugin_reports_the_server(own_server, server_name: str, sink: Sink, tmp_path: pathlib.Path, key: str):
    spec = importlib.util.find_spec("lmcache")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("lmcache is not installed here")
    plugin = pathlib.Path(spec.submodule_search_locations[0]) / MP_PLUGIN
    if not plugin.exists():
        pytest.skip("this lmcache has no frontend plugin")
    extra = {
        key: f"{sink.url}/lmcache_heartbeat",
        "plugin.frontend.heartbeat_initial_delay": 0,
        "plugin.frontend.heartbeat_interval": 1,
        "plugin.frontend.report_host": "127.0.0.1",
    }
    # The plugin leaves slowly where other work keeps the machine busy; that is not what is tested.
    patience = ["--runtime-plugin-defaults", '{"stop_timeout_s": 25}'] if server_name == "larder" else []
    server = own_server("--runtime-plugin-locations", str(plugin), "--runtime-plugin-config", json.dumps(extra),
                        *patience, env=environment())
    wait_for_line(server, "[mp_frontend] config keys: ['mp_config', 'storage_manager_config', 'obs_config', 'http_config', "
                          "'runtime_plugin_extra_config']")
    wait_for_line(server, f"[mp_frontend] extra_cfg: {json.dumps(extra)}")
    beat = until(lambda: sink.requests, "a heartbeat")[0]
    assert beat["path"] == "/lmcache_heartbeat"
    assert beat["query"]["api_address"] == f"http://127.0.0.1:{server.http_port}"
    server.stop()
    wait_for_line(server, f"[{plugin}] [mp_frontend] Received termination signal, exiting...")
