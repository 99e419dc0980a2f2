"""Runtime plugins: what a script is given, what becomes of its output, and that it never outlives the server."""

from __future__ import annotations

import json
import os
import pathlib
import re

import pytest

from mpkit.deviation import differs
from mpkit.plugins import plain_log, running, script
from mpkit.wait import until

EXAMPLES = pathlib.Path(__file__).resolve().parents[3] / "examples" / "mp_runtime_plugins"

#: Both generations of variable names (spec/runtime-plugins.md 5).
ENVIRONMENT = {
    "LMCACHE_RUNTIME_PLUGIN_ROLE": "", "LMCACHE_PLUGIN_ROLE": "",
    "LMCACHE_RUNTIME_PLUGIN_WORKER_COUNT": "1", "LMCACHE_PLUGIN_WORKER_COUNT": "1",
    "LMCACHE_RUNTIME_PLUGIN_WORKER_ID": "0", "LMCACHE_PLUGIN_WORKER_ID": "0",
    "PYTHONUNBUFFERED": "1",
}

REPORTER = """\
import json, os, sys
out = {k: v for k, v in os.environ.items() if "PLUGIN" in k or k == "PYTHONUNBUFFERED"}
open(os.path.join(os.path.dirname(__file__), "seen.json.part"), "w").write(
    json.dumps({"env": out, "cwd": os.getcwd(), "argv": sys.argv, "pid": os.getpid()}))
os.rename(os.path.join(os.path.dirname(__file__), "seen.json.part"), os.path.join(os.path.dirname(__file__), "seen.json"))
print("to stdout")
print("to stderr", file=sys.stderr)
sys.exit(3)
"""

#: A plugin with a child of its own; neither ends by itself.
STUBBORN = """\
#!/bin/bash
sleep 1000 &
echo "$$ $!" > "$(dirname "$0")/pids.part"
mv "$(dirname "$0")/pids.part" "$(dirname "$0")/pids"
echo started
wait
"""


@pytest.fixture
def reported(own_server, tmp_path):
    """A server that started one reporting plugin with extra configuration, and what the plugin saw."""
    path = script(tmp_path, "reporter.py", REPORTER)
    extra = {"plugin.frontend.heartbeat_url": "http://127.0.0.1:5000/hb", "n": 3, "text": "grün"}
    server = own_server("--runtime-plugin-locations", str(tmp_path), "--runtime-plugin-config", json.dumps(extra))
    until((tmp_path / "seen.json").exists, "the plugin's report")
    return server, path, extra, json.loads((tmp_path / "seen.json").read_text())


def test_environment(reported):
    _, path, _, seen = reported
    assert ENVIRONMENT.items() <= seen["env"].items()
    assert seen["cwd"] == os.getcwd() and seen["argv"] == [str(path)]
    assert seen["env"]["LMCACHE_RUNTIME_PLUGIN_CONFIG"] == seen["env"]["LMCACHE_PLUGIN_CONFIG"]
    assert "\n" not in seen["env"]["LMCACHE_RUNTIME_PLUGIN_CONFIG"]


def test_configuration_blob(reported):
    server, path, extra, seen = reported
    blob = json.loads(seen["env"]["LMCACHE_RUNTIME_PLUGIN_CONFIG"])
    sections = {"mp_config", "storage_manager_config", "obs_config", "http_config", "runtime_plugin_extra_config"}
    assert sections <= blob.keys()
    mp = blob["mp_config"]
    assert mp["host"] == "127.0.0.1" and mp["port"] == server.port and mp["chunk_size"] == 16
    assert mp["max_workers"] == mp["max_gpu_workers"] == mp["max_cpu_workers"] == 1
    assert mp["hash_algorithm"] == "blake3" and mp["engine_type"] == "default"
    assert mp["runtime_plugin_config"] == {"locations": [str(path.parent)], "extra_config": extra}
    memory = blob["storage_manager_config"]["l1_manager_config"]["memory_config"]
    assert memory["size_in_bytes"] == 1 << 26 and memory["align_bytes"] == 4096 and memory["use_lazy"] is False
    eviction = blob["storage_manager_config"]["eviction_config"]
    assert eviction["eviction_policy"] == "LRU"
    assert (eviction["trigger_watermark"], eviction["eviction_ratio"]) == (0.8, 0.2)
    assert blob["storage_manager_config"]["l2_adapter_config"] == {"adapters": []}
    assert blob["obs_config"]["enabled"] is True and blob["obs_config"]["prometheus_port"] == 9090
    assert blob["http_config"] == {"http_host": "127.0.0.1", "http_port": server.http_port}
    assert blob["runtime_plugin_extra_config"] == extra


def test_the_older_shape_of_the_blob(reported):
    server, path, _, seen = reported
    blob = json.loads(seen["env"]["LMCACHE_RUNTIME_PLUGIN_CONFIG"])
    wanted = differs(server, "plugin-locations-in-mp-config", peer=None, ours=[str(path.parent)])
    assert blob["mp_config"].get("runtime_plugin_locations") == wanted


def test_extra_configuration_variable(reported):
    server, _, extra, seen = reported
    text = seen["env"].get("LMCACHE_RUNTIME_PLUGIN_EXTRA_CONFIG")
    assert differs(server, "plugin-extra-config-variable", peer=False, ours=True) is (text is not None)
    if text is not None:
        assert json.loads(text) == extra


def test_output_and_exit_are_logged(reported):
    server, path, _, _ = reported
    for line in (f"Launched runtime plugin: {path} with ", f"[{path}] to stdout", f"[{path}] to stderr",
                 f"Runtime plugin {path} exited with code 3"):
        until(lambda line=line: line in plain_log(server), line)


def test_log_lines_have_the_usual_shape(reported):
    server, path, _, _ = reported
    line = re.compile(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}\] LMCache INFO: ?\[" + re.escape(str(path)) + r"\] to stdout")
    until(lambda: line.search(plain_log(server)), "a line of the usual shape")


def test_missing_and_unfit_locations_do_not_matter(own_server, tmp_path):
    script(tmp_path, "fine.sh", "echo fine\n")
    (tmp_path / "readme.txt").write_text("no plugin")
    server = own_server("--runtime-plugin-locations", "/nowhere/at/all", str(tmp_path))
    until(lambda: f"[{tmp_path / 'fine.sh'}] fine" in plain_log(server), "the good plugin's output")
    assert "/nowhere/at/all" in plain_log(server)
    assert server.alive()


def test_bytes_that_are_no_text_lose_nothing_else(own_server, tmp_path):
    path = script(tmp_path, "bytes.sh", "printf 'bad \\xff byte\\n'\nsleep 0.2\necho after\n")
    server = own_server("--runtime-plugin-locations", str(tmp_path))
    ended = f"Runtime plugin {path} exited with code 0"
    if differs(server, "plugin-output-not-utf8", peer=False, ours=True):
        until(lambda: f"[{path}] after" in plain_log(server), "the line after the bad one")
        until(lambda: ended in plain_log(server), ended)
    else:
        until(lambda: "Error capturing output" in plain_log(server), "the reader's end")


def test_a_shebang_with_arguments_is_honoured(own_server, tmp_path):
    path = script(tmp_path, "env.py", "#!/usr/bin/env -S python3 -X dev\nimport sys\nprint('dev', sys.flags.dev_mode)\n")
    server = own_server("--runtime-plugin-locations", str(tmp_path))
    honoured = differs(server, "plugin-shebang-arguments", peer=False, ours=True)
    until(lambda: f"[{path}] dev {honoured}" in plain_log(server), "the plugin's output")


def test_the_server_is_told_to_plugins(own_server, tmp_path):
    path = script(tmp_path, "pid.sh", "echo parent $PPID server ${LMCACHE_RUNTIME_PLUGIN_SERVER_PID-none}\n")
    server = own_server("--runtime-plugin-locations", str(tmp_path))
    line = re.compile(re.escape(f"[{path}]") + r" parent (\d+) server (\d+|none)")
    parent, told = until(lambda: line.search(plain_log(server)), "the plugin's line").groups()
    assert differs(server, "plugin-parent-process", peer=True, ours=False) is (told == "none")
    if told != "none":
        assert running(int(told)) and parent != told


def test_secrets_of_the_environment_are_for_plugins_that_name_them(own_server, tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_ACCESS_TOKEN", "t0k3n")
    monkeypatch.setenv("SOME_SETTING", "plain")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "none"))
    report = "echo got ${SOME_SETTING-none} ${SOME_ACCESS_TOKEN-none} ${NOTIFY_SOCKET+socket}\n"
    bare, granted = (script(tmp_path, name, report) for name in ("bare.sh", "granted.sh"))
    (tmp_path / "granted.sh.plugin.toml").write_text('inherit_secrets = ["SOME_ACCESS_TOKEN"]\n')
    server = own_server("--runtime-plugin-locations", str(tmp_path))
    seen = differs(server, "plugin-secrets-in-environment", peer="t0k3n socket", ours="none")
    until(lambda: f"[{bare}] got plain {seen}" in plain_log(server), "the plugin without a manifest")
    until(lambda: f"[{granted}] got plain t0k3n" in plain_log(server), "the plugin with one")


def test_the_server_comes_up_with_every_plugin_broken(own_server, tmp_path):
    script(tmp_path, "a.py", "import no_such_module\n")
    script(tmp_path, "b.sh", "exit 7\n")
    script(tmp_path, "c.py", "#!/no/such/interpreter\nprint('hello')\n")
    server = own_server("--runtime-plugin-locations", str(tmp_path))
    assert server.alive()
    for line in ("exited with code 1", "exited with code 7"):
        until(lambda line=line: line in plain_log(server), line)


@pytest.mark.parametrize("ending", ["SIGTERM", "SIGKILL"])
def test_nothing_outlives_the_server(own_server, tmp_path, ending):
    script(tmp_path, "stubborn.sh", STUBBORN)
    server = own_server("--runtime-plugin-locations", str(tmp_path))
    until((tmp_path / "pids").exists, "the plugin's process ids")
    pids = [int(text) for text in (tmp_path / "pids").read_text().split()]
    server.stop() if ending == "SIGTERM" else server.kill()
    try:
        orphans = differs(server, "plugin-orphans", peer=True, ours=False)
        if orphans:
            assert any(running(pid) for pid in pids)
        else:
            until(lambda: not any(running(pid) for pid in pids), "the end of every plugin process")
    finally:
        for pid in filter(running, pids):
            os.kill(pid, 9)


def test_a_plugin_that_ignores_sigterm_is_ended(own_server, tmp_path):
    script(tmp_path, "deaf.sh", 'trap "" TERM\n' + STUBBORN.replace("wait\n", "while :; do sleep 1; done\n"))
    server = own_server("--runtime-plugin-locations", str(tmp_path))
    until((tmp_path / "pids").exists, "the plugin's process ids")
    pids = [int(text) for text in (tmp_path / "pids").read_text().split()]
    server.stop()
    try:
        survives = differs(server, "plugin-orphans", peer=True, ours=False)
        assert any(running(pid) for pid in pids) is survives
    finally:
        for pid in filter(running, pids):
            os.kill(pid, 9)


def test_example_plugins(own_server, server_name):
    if not EXAMPLES.is_dir():
        pytest.skip("no example plugins yet")
    server = own_server("--runtime-plugin-locations", str(EXAMPLES))
    expected = [
        "[mp_plugin] Started",
        f"[mp_plugin] MP server: host=127.0.0.1 port={server.port} chunk_size=16",
        "[mp_plugin] Storage: L1=0.1GB eviction=LRU watermark=0.8",
        "[mp_plugin] heartbeat #0",
        "[mp_heartbeat] Started",
        "[mp_heartbeat] heartbeat #0",
    ]
    for line in expected:
        until(lambda line=line: line in plain_log(server), line)
