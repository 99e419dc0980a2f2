"""What the reference server does wrong with plugins, one test each; on ours every one of them is put right."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

from mpkit.deviation import differs
from mpkit.plugins import plain_log, script, wait_for_line
from mpkit.process import Server, free_port
from mpkit.wait import until

ROOT = pathlib.Path(__file__).resolve().parents[3]
REPORT = '#!/bin/bash\necho "$0 ran"\n'


def runs(server: Server, path: pathlib.Path, last: pathlib.Path) -> bool:
    """Whether `path` ran, once `last`, which is started after it, has."""
    wait_for_line(server, f"[{last}] {last} ran")
    return f"Launched runtime plugin: {path} " in plain_log(server)


def skipped(server: Server) -> dict[str, str]:
    """Files that our server does not run, with the reason."""
    return {skip["path"]: skip["text"] for skip in json.loads(server.http("/plugins")[1])["skipped"]}


def test_the_documented_command_starts_plugins(server_name: str, request: pytest.FixtureRequest, tmp_path: pathlib.Path):
    """`python -m lmcache.v1.multiprocess.server` takes the flag and launches nothing; `larder server` is the one way to start ours."""
    commands = dict(option.split("=", 1) for option in request.config.getoption("--server"))
    ours = server_name == "larder"
    command = shlex.split(commands["larder"]) if ours else [sys.executable, "-m", "lmcache.v1.multiprocess.server"]
    port = free_port()
    flags = f"--host localhost --port {port} --l1-size-gb 0.1 --eviction-policy LRU --runtime-plugin-locations examples/mp_runtime_plugins/"
    extra = ["--http-port", "0", "--shm-name", ""] if ours else []
    log = tmp_path / "log"
    with open(log, "wb") as file:
        process = subprocess.Popen([*command, *shlex.split(flags), *extra], cwd=ROOT, stdout=file, stderr=file,
                                   stdin=subprocess.DEVNULL, env=os.environ | {"LMCACHE_TRACK_USAGE": "false"})
    try:
        until(lambda: "is running" in log.read_text(), "the server", 120)
        server = Server(server_name, "", tmp_path, [])
        if differs(server, "plugin-entry-points", peer=False, ours=True):
            # Word for word as the examples' documentation prints it, relative paths included.
            for line in (
                "Launched runtime plugin: examples/mp_runtime_plugins/mp_plugin.py with /",
                "[examples/mp_runtime_plugins/mp_plugin.py] [mp_plugin] Started",
                f"[mp_plugin] MP server: host=localhost port={port} chunk_size=256",
                "[mp_plugin] Storage: L1=0.1GB eviction=LRU watermark=0.8",
                "[examples/mp_runtime_plugins/mp_heartbeat.sh] [mp_heartbeat] heartbeat #0",
            ):
                until(lambda line=line: line in log.read_text(), line)
    finally:
        process.terminate()
        process.wait(60)
    assert ("Launched runtime plugin" in log.read_text()) is ours


def test_a_package_s_init_file_is_no_plugin(own_server, tmp_path: pathlib.Path):
    init = script(tmp_path, "__init__.py", "print('ran')\n")
    helper = script(tmp_path, "_helper.py", "print('ran')\n")
    hidden = script(tmp_path, ".hidden.py", "print('ran')\n")
    last = script(tmp_path, "z.sh", REPORT)
    server = own_server("--runtime-plugin-locations", str(tmp_path))
    expected = differs(server, "plugin-no-plugins", peer=True, ours=False)
    assert [runs(server, path, last) for path in (init, helper, hidden)] == [expected] * 3
    if server.is_ours:
        assert {str(init), str(helper), str(hidden)} <= skipped(server).keys()


def test_a_folder_named_like_a_script_is_no_plugin(own_server, tmp_path: pathlib.Path):
    folder = tmp_path / "package.py"
    folder.mkdir()
    last = script(tmp_path, "z.sh", REPORT)
    server = own_server("--runtime-plugin-locations", str(tmp_path))
    assert runs(server, folder, last) is differs(server, "plugin-no-plugins", peer=True, ours=False)


def test_a_file_that_is_found_twice_runs_once(own_server, tmp_path: pathlib.Path):
    path = script(tmp_path, "once.sh", REPORT)
    (tmp_path / "again.sh").symlink_to(path)
    last = script(tmp_path, "z.sh", REPORT)
    server = own_server("--runtime-plugin-locations", str(tmp_path), str(path))
    wait_for_line(server, f"[{last}] {last} ran")
    server.stop()
    launched = re.findall(r"Launched runtime plugin: \S+/(?:once|again)\.sh ", plain_log(server))
    assert len(launched) == differs(server, "plugin-twice", peer=3, ours=1)


def test_executables_in_other_languages_run(own_server, tmp_path: pathlib.Path):
    path = script(tmp_path, "all_p.pl", "#!/usr/bin/perl\nprint \"perl\\n\";\n")
    last = script(tmp_path, "z.sh", REPORT)
    server = own_server("--runtime-plugin-locations", str(tmp_path))
    wait_for_line(server, f"[{last}] {last} ran")
    if differs(server, "plugin-languages", peer=False, ours=True):
        wait_for_line(server, f"[{path}] perl")
    else:
        assert str(path) not in plain_log(server), "not even said to be ignored"


def test_a_huge_line_is_cut(own_server, tmp_path: pathlib.Path):
    size = 3_000_000
    path = script(tmp_path, "long.sh", f"head -c {size} /dev/zero | tr '\\0' x\necho\necho after\n")
    server = own_server("--runtime-plugin-locations", str(tmp_path))
    wait_for_line(server, f"[{path}] after")
    longest = max(map(len, plain_log(server).splitlines()))
    assert (longest > size) is differs(server, "plugin-long-lines", peer=True, ours=False)
    if server.is_ours:
        assert longest < 20_000 and re.search(r"x \.\.\.\[\d+ bytes cut\]", plain_log(server))


def test_standard_error_is_told_from_standard_output(own_server, tmp_path: pathlib.Path):
    path = script(tmp_path, "both.sh", "echo out\necho err >&2\n")
    server = own_server("--runtime-plugin-locations", str(tmp_path))
    levels = {}
    for text in ("out", "err"):
        pattern = re.compile(rf"LMCache (\w+): ?\[{re.escape(str(path))}\] {text}")
        levels[text] = until(lambda pattern=pattern: pattern.search(plain_log(server)), text).group(1)
    assert levels == {"out": "INFO", "err": differs(server, "plugin-stderr", peer="INFO", ours="WARNING")}


def test_a_line_cannot_be_forged(own_server, tmp_path: pathlib.Path):
    script(tmp_path, "liar.sh", "printf 'x\\033[1A\\033[2K forged\\n'\necho after\n")
    server = own_server("--runtime-plugin-locations", str(tmp_path))
    wait_for_line(server, "liar.sh] after")
    # An escape sequence that moves the terminal's cursor over what others wrote.
    assert ("\x1b[1A" in server.log()) is differs(server, "plugin-escapes", peer=True, ours=False)


def test_a_huge_configuration_reaches_plugins(own_server, tmp_path: pathlib.Path):
    path = script(tmp_path, "big.py", "import json, os\n"
                  "file = os.environ.get('LMCACHE_RUNTIME_PLUGIN_CONFIG_FILE')\n"
                  "print('bulk', len(json.load(open(file))['runtime_plugin_extra_config']['bulk']))\n")
    # On the command line one word of 128 KiB is as impossible as in the environment; escaped, it grows sixfold.
    extra = json.dumps({"bulk": "é" * 30_000}, ensure_ascii=False)
    server = own_server("--runtime-plugin-locations", str(tmp_path), "--runtime-plugin-config", extra)
    if differs(server, "plugin-huge-configuration", peer=False, ours=True):
        wait_for_line(server, f"[{path}] bulk 30000")
    else:
        wait_for_line(server, f"Failed to launch plugin {path}: [Errno 7]")
