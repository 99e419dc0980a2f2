"""The examples in examples/runtime_plugins: each does what its README row says, beside a real server and with somebody to talk to."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator

import pytest

from mpkit.engine import Engine, prompt
from mpkit.plugins import Sink, plain_log, wait_for_line
from mpkit.process import Server
from mpkit.wait import until

EXAMPLES = pathlib.Path(__file__).resolve().parents[3] / "examples" / "runtime_plugins"

#: The peer has neither an event feed nor manifests.
pytestmark = pytest.mark.ours_only

Start = Callable[..., Server]


@pytest.fixture
def sink() -> Iterator[Sink]:
    opened = Sink()
    yield opened
    opened.close()


@pytest.fixture
def beside(own_server, tmp_path: pathlib.Path) -> Start:
    """A function that starts a server with one example beside it; settings are the plugin's keys."""

    def start(file: str, manifest: bool = True, /, *, extra: dict[str, object] | None = None, **settings: object) -> Server:
        folder = tmp_path / "plugins"
        folder.mkdir(exist_ok=True)
        wanted = [file, "_plugin.py", *([f"{file}.plugin.toml"] if manifest else [])]
        for name in wanted:
            if (EXAMPLES / name).exists():
                shutil.copy(EXAMPLES / name, folder)
        name = file.rsplit(".", 1)[0]
        config = {f"plugin.{name}.{key}": value for key, value in settings.items()} | (extra or {})
        return own_server("--runtime-plugin-locations", str(folder), "--runtime-plugin-config", json.dumps(config))

    return start


def stops_by_itself(server: Server) -> None:
    """The plugin ends on SIGTERM, before anybody has to kill it."""
    server.stop()
    log = plain_log(server)
    assert "did not stop in time" not in log and "Traceback" not in log, log[-4000:]


def plugin(server: Server, name: str) -> dict[str, object]:
    return json.loads(server.http(f"/plugins/{name}")[1])


@pytest.mark.parametrize("manifest", [True, False])
def test_metric_push(beside: Start, sink: Sink, manifest: bool):
    server = beside("metric_push.py", manifest, url=sink.url, interval=0.2, job="a/b", instance="n1")
    until(lambda: len(sink.requests) >= 2, "two pushes")
    pushed = sink.requests[0]
    assert (pushed["method"], pushed["path"]) == ("PUT", "/metrics/job/a%2Fb/instance/n1")
    assert "lmcache_mp_l1_usage_ratio" in pushed["body"]
    sink.status = 503
    wait_for_line(server, "not pushed: HTTP Error 503")
    sink.status = 200
    wait_for_line(server, "pushing again")
    stops_by_itself(server)


def test_metric_push_without_its_address_is_not_started(beside: Start):
    server = beside("metric_push.py", interval=1)
    wait_for_line(server, "`plugin.metric_push.url` is missing, wanted a string")
    assert plugin(server, "metric_push")["cause"] == "config"


def test_log_forward(beside: Start, sink: Sink, tmp_path: pathlib.Path):
    log = tmp_path / "node.log"
    log.write_text("before\n")
    server = beside("log_forward.py", url=sink.url, file=str(log), interval=0.05)
    wait_for_line(server, f"following {log}")
    wait_for_line(server, "following the events")
    with open(log, "a") as file:
        file.write("one\n")
    server.http("/cache/clear", "POST", {})
    until(lambda: {"one"} <= {r.get("line") for r in sink.records()}, "the line of the file")
    until(lambda: "clear" in {r.get("kind") for r in sink.records()}, "the event")
    # Rotated: the rest of the old file is not sent again, the new one is read from its beginning.
    log.rename(tmp_path / "node.log.1")
    log.write_text("two\n")
    until(lambda: "two" in {r.get("line") for r in sink.records()}, "the line of the new file")
    sink.status = 500
    with open(log, "a") as file:
        file.write("three\n")
    wait_for_line(server, "1 records wait: HTTP Error 500")
    sink.status = 200
    until(lambda: "three" in {r.get("line") for r in sink.records()}, "what had to wait")
    lines = [r["line"] for r in sink.records() if "line" in r]
    assert lines == ["one", "two", "three"]
    stops_by_itself(server)


def test_process_alert(beside: Start, sink: Sink):
    server = beside("process_alert.py", webhook_url=sink.url, interval=0.1, open_files=1, threads=100_000)
    alert = until(lambda: sink.requests, "an alert")[0]
    body = json.loads(alert["body"])
    assert (body["alert"], body["firing"], body["limit"], body["pid"]) == ("open_files", True, 1, server.pid)
    assert body["value"] == pytest.approx(len(os.listdir(f"/proc/{server.pid}/fd")), abs=20)
    wait_for_line(server, "ERROR: ")
    wait_for_line(server, "open_files is ")
    stops_by_itself(server)
    assert len(sink.requests) == 1, "said once, not with every look"


def test_health_check(beside: Start, tmp_path: pathlib.Path):
    state = tmp_path / "state"
    server = beside("health_check.sh", interval=0.1, failures=2, state_file=str(state))
    wait_for_line(server, "[health_check] unknown -> healthy")
    assert state.read_text() == "healthy\n"
    assert plugin(server, "health_check")["state"] == "ready"
    # A server that hangs answers nothing, while its plugins run on.
    os.kill(server.pid, signal.SIGSTOP)
    try:
        until(lambda: state.read_text() == "unhealthy\n", "the change of the state")
    finally:
        os.kill(server.pid, signal.SIGCONT)
    until(lambda: state.read_text() == "healthy\n", "the way back")
    wait_for_line(server, "healthy -> unhealthy: no answer")
    stops_by_itself(server)
    assert state.read_text() == "stopped\n"


@pytest.mark.parametrize("key", ["plugin.discovery_heartbeat.heartbeat_url", "plugin.frontend.heartbeat_url",
                                 "plugin.frontend.heartbeat-url"])
def test_discovery_heartbeat(beside: Start, sink: Sink, key: str):
    server = beside("discovery_heartbeat.py", heartbeat_interval=0.1, extra={key: f"{sink.url}/lmcache_heartbeat"})
    until(lambda: len(sink.requests) >= 2, "two heartbeats")
    beat = sink.requests[0]
    assert (beat["method"], beat["path"]) == ("GET", "/lmcache_heartbeat")
    assert beat["query"]["api_address"] == f"http://127.0.0.1:{server.http_port}"
    assert int(beat["query"]["pid"]) > 0 and beat["query"]["version"].startswith("0.")
    assert json.loads(beat["query"]["other_info"]) == {"is_healthy": True, "chunk_size": 16}
    stops_by_itself(server)
    assert plain_log(server).count("] registered") == 1


def test_discovery_heartbeat_without_an_address_ends(beside: Start):
    server = beside("discovery_heartbeat.py", extra={"plugin.frontend.port": 8000})
    wait_for_line(server, "nothing to register with")
    wait_for_line(server, "exited with code 0")


@pytest.mark.parametrize("manifest", [True, False])
def test_cache_keeper_drops_models(beside: Start, engines, tmp_path: pathlib.Path, manifest: bool):
    server = beside("cache_keeper.py", manifest, drop_models=["old"], interval=0.2)
    wait_for_line(server, "[cache_keeper] started")
    old, new = engines(server, model="old"), engines(server, model="new")
    tokens = prompt("kept", 3)
    new.store(tokens)
    old.store(tokens)
    if manifest:
        wait_for_line(server, "exited with code 0")
        server.http("/plugins/cache_keeper/start", "POST")
    wait_for_line(server, "dropped 3 objects of old")
    assert (old.hits(tokens), new.hits(tokens)) == (0, 3)
    stops_by_itself(server)


def test_cache_keeper_clears_what_stays_full(beside: Start, engines):
    server = beside("cache_keeper.py", False, clear_above=0.0001, interval=0.2)
    engine: Engine = engines(server)
    tokens = prompt("full", 4)
    engine.store(tokens)
    wait_for_line(server, "full: cleared, now 0%")
    assert engine.hits(tokens) == 0
    stops_by_itself(server)


def test_external_system(beside: Start, engines, tmp_path: pathlib.Path):
    path = tmp_path / "events.sqlite"
    server = beside("external_system.py", path=str(path), kinds="store,clear")
    wait_for_line(server, "following the events")
    engines(server).store(prompt("a", 2))

    def rows(kind: str) -> list[dict[str, object]]:
        with sqlite3.connect(path) as database:
            found = database.execute("SELECT body FROM events WHERE kind = ? ORDER BY seq", (kind,)).fetchall()
        return [json.loads(body) for (body,) in found]

    until(lambda: rows("store"), "the store in the database")
    assert rows("store")[0]["chunks"] == 2
    # Restarted, it goes on where it was: what happened meanwhile is not lost, nothing is there twice.
    server.http("/plugins/external_system/stop", "POST")
    server.http("/plugins/external_system/start", "POST")
    wait_for_line(server, f"writing to {path} from position 2")
    until(lambda: plain_log(server).count("following the events") == 2, "the second connection")
    server.http("/cache/clear", "POST", {})
    until(lambda: rows("clear"), "the clearing in the database")
    assert (len(rows("store")), len(rows("clear"))) == (1, 1)
    stops_by_itself(server)


def test_chunk_hash_upload(beside: Start, engines, sink: Sink):
    server = beside("chunk_hash_upload.py", url=sink.url, settle=0.05)
    wait_for_line(server, "following the events")
    engine: Engine = engines(server)
    engine.store(prompt("hashes", 3))

    def uploaded(key: str) -> set[str]:
        return {digest for record in sink.records() for digest in record[key]}

    until(lambda: len(uploaded("added")) == 3, "three new hashes")
    listed = json.loads(server.http("/cache/objects?tier=l1")[1])["entries"]
    assert uploaded("added") == {entry["key"]["chunk_hash_hex"] for entry in listed}
    assert not uploaded("removed") and all(len(digest) == 64 for digest in uploaded("added"))
    server.http("/cache/clear", "POST", {})
    until(lambda: uploaded("removed") == uploaded("added"), "the same hashes as gone")
    stops_by_itself(server)


def test_the_readme_names_every_example():
    readme = (EXAMPLES / "README.md").read_text()
    for path in EXAMPLES.iterdir():
        if path.suffix in (".py", ".sh"):
            assert f"`{path.name}`" in readme or f"[{path.name}]" in readme, path.name
