"""The examples for operators, and the page about them: each is valid, and names nothing that a real server has not."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tomllib
from typing import Any

import kubernetes_validate
import pytest
import yaml

from mpkit.engine import prompt
from mpkit.guide import ROOT
from mpkit.promql import Reading, scraped
from mpkit.wait import until

from test_cache_control import l2_files

pytestmark = pytest.mark.ours_only

EXAMPLES = ROOT / "examples"
PAGE = "docs/guide/deployment.md"

#: Flags on the page that are those of other programs.
FOREIGN_FLAGS = {"--file", "--tag", "--target", "--network", "--ipc", "--shm-size", "--stop-timeout", "--volume",
                 "--name", "--system", "--no-create-home", "--now", "--release", "--locked", "--package"}

#: The release of Kubernetes whose rules the files are held against.
KUBERNETES = "1.33"

#: Hundredths of a point of `systemd-analyze security`, of 1000: below it is what that calls OK.
EXPOSURE_MAX = 30


def flags(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", text))


def known_flags(program: str, *command: str) -> set[str]:
    shown = subprocess.run([program, *command], capture_output=True, text=True, check=True)
    return flags(shown.stdout)


def checked(program: str, path: pathlib.Path) -> None:
    """The file is a valid configuration, wherever it will be used."""
    done = subprocess.run([program, "config", "check", "--config", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


# Monitoring


@pytest.fixture
def series(own_server, engines, model, tmp_path) -> dict:
    """What there is to ask for after a little of everything: a tier that evicts, one plugin up and one down."""
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "running.sh").write_text("#!/bin/bash\nread -r _\n")
    (plugins / "failing.sh").write_text("#!/bin/bash\nexit 3\n")
    tier = {"type": "fs", "base_path": str(tmp_path / "kv"), "max_capacity_gb": 0.001,
            "eviction": {"eviction_policy": "LRU", "trigger_watermark": 0.5, "eviction_ratio": 0.5}}
    server = own_server("--metrics-sample-rate", "1", "--runtime-plugin-locations", str(plugins),
                        "--l2-adapter", json.dumps(tier), l1_size_gb="0.001")
    engine = engines(server)
    tokens = prompt(model, 4)
    engine.store(tokens)
    engine.fetch(tokens, 4)
    until(lambda: l2_files(tmp_path / "kv") == 4)
    until(lambda: "larder_plugin_last_exit_code{" in server.http("/metrics")[1])
    return scraped(server.http("/metrics")[1])


def alerts() -> list[dict[str, Any]]:
    document = yaml.safe_load((EXAMPLES / "prometheus/alerts.yml").read_text())
    assert document.keys() == {"groups"}
    assert all(group.keys() == {"name", "rules"} for group in document["groups"])
    return [rule for group in document["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    board = json.loads((EXAMPLES / "grafana/dashboard.json").read_text())
    assert [variable["name"] for variable in board["templating"]["list"]] == ["datasource", "instance"]
    return board["panels"]


def test_rules_and_dashboard_ask_for_what_a_server_has(series):
    mistakes = []

    def read(where: str, expression: str, shown: list[str]) -> None:
        reading = Reading(expression, series)
        mistakes.extend(f"{where}: {mistake}" for mistake in reading.mistakes)
        mistakes.extend(f"{where}: shows `{label}`, which the result has not"
                        for label in shown if label not in reading.labels)

    for rule in alerts():
        texts = " ".join(rule["annotations"].values())
        read(rule["alert"], rule["expr"], re.findall(r"\$labels\.(\w+)", texts))
    for panel in panels():
        for target in panel.get("targets", []):
            expression = target["expr"].replace("$__rate_interval", "5m").replace("$instance", ".*")
            read(panel["title"], expression, re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
    assert mistakes == []


def test_every_alert_says_what_to_do():
    rules = alerts()
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert rule.keys() - {"for"} == {"alert", "expr", "labels", "annotations"}, rule["alert"]
        assert rule["labels"].keys() == {"severity"} and rule["labels"]["severity"] in ("critical", "warning", "info")
        assert rule["annotations"].keys() == {"summary", "description"}
    named = set(re.findall(r"`(?:GET|POST) (/\S+)`", (EXAMPLES / "prometheus/alerts.yml").read_text()))
    reference = (ROOT / "docs/reference/admin-http.md").read_text()
    assert named and all(f" {route}`" in reference for route in named), named


def test_panels_lie_beside_each_other_and_explain_themselves():
    taken = set()
    for panel in panels():
        place = panel["gridPos"]
        columns = range(place["x"], place["x"] + place["w"])
        cells = {(x, y) for x in columns for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken and max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells
        assert panel["type"] == "row" or panel["description"], panel["title"]


# systemd


def test_the_service_manager_hears_of_a_server(own_server):
    """READY=1 and STATUS= at its start, WATCHDOG=1 as long as it is well, STOPPING=1 at its end."""
    name = f"larder-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{name}")
        manager.settimeout(60)
        server = own_server(env={"NOTIFY_SOCKET": f"@{name}", "WATCHDOG_USEC": "200000"})
        first = manager.recv(4096).decode()
        assert first.startswith("READY=1\nSTATUS=larder ") and server.endpoint in first
        assert {manager.recv(4096) for _ in range(3)} == {b"WATCHDOG=1"}
        assert server.stop() == 0
        last = until(lambda: (said := manager.recv(4096)) != b"WATCHDOG=1" and said)
        assert last == b"STOPPING=1\nSTATUS=stopping: SIGTERM"


def test_the_unit_is_lawful_and_names_what_there_is(server_program, tmp_path):
    text = (EXAMPLES / "systemd/larder.service").read_text()
    settings = dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))
    assert (settings["Type"], settings["KillMode"]) == ("notify", "mixed")
    start = settings["ExecStart"].split()
    assert flags(settings["ExecStart"]) <= known_flags(server_program, "server", "--help-all")
    config = EXAMPLES / "systemd" / pathlib.Path(start[-1]).name
    checked(server_program, config)
    written = tomllib.loads(config.read_text())
    assert written["runtime_plugin_stop_budget"] < int(settings["TimeoutStopSec"])
    assert written["l2_adapter"][0]["base_path"] == f"/var/cache/{settings['CacheDirectory']}"
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze (Debian: systemd)")
    program = pathlib.Path(shutil.which(server_program) or server_program).resolve()
    unit = tmp_path / "larder.service"
    unit.write_text(text.replace(start[0], str(program)))
    verified = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
    # systemd 254 has it, Debian 12 does not.
    said = [line for line in verified.stderr.splitlines() if "larder" in line and "DelegateSubgroup" not in line]
    assert (verified.returncode, said) == (0, [])
    judged = subprocess.run(["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE_MAX}", unit],
                            capture_output=True, text=True)
    assert judged.returncode == 0, judged.stdout


# Container


def stages(dockerfile: str) -> dict[str, list[list[str]]]:
    """The instructions of each stage by its name, or by what it begins with."""
    found: dict[str, list[list[str]]] = {}
    joined = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", dockerfile, flags=re.MULTILINE))
    for line in filter(None, joined.splitlines()):
        instruction, rest = line.split(maxsplit=1)
        if instruction == "FROM":
            words = rest.split()
            current = found.setdefault(words[-1], [])
        current.append([instruction, rest])
    return found


def test_the_dockerfile_is_lawful_and_builds_with_the_compiler_of_the_house(server_program):
    path = EXAMPLES / "container/Dockerfile"
    linter = pathlib.Path(sys.executable).with_name("hadolint")
    linted = subprocess.run([linter, path], capture_output=True, text=True)
    assert linted.returncode == 0, linted.stdout
    text = path.read_text()
    toolchain = tomllib.loads((ROOT / "rust-toolchain.toml").read_text())["toolchain"]["channel"]
    assert f"FROM rust:{toolchain}-slim-bookworm AS build" in text
    made = stages(text)
    assert list(made) == ["build", "distroless", "debian:bookworm-slim"]
    for name in ("distroless", "debian:bookworm-slim"):
        instructions = dict(made[name])
        assert json.loads(instructions["ENTRYPOINT"]) == ["/usr/local/bin/larder"]
        probe = json.loads(instructions["HEALTHCHECK"].partition(" CMD ")[2])
        assert probe == ["/usr/local/bin/larder", "status"]
        command = json.loads(instructions["CMD"])
        assert flags(" ".join(command)) <= known_flags(server_program, command[0], "--help-all")
    assert dict(made["debian:bookworm-slim"])["USER"] == "10001:10001"
    assert "nonroot" in dict(made["distroless"])["FROM"]


def test_the_image_is_built_from_all_that_the_build_reads():
    lines = (EXAMPLES / "container/Dockerfile.dockerignore").read_text().splitlines()
    assert "*" in lines
    sent = [line[1:] for line in lines if line.startswith("!")]
    assert all((ROOT / path).exists() for path in sent)
    workspace = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]
    needed = {"Cargo.toml", "Cargo.lock", *(member.removesuffix("/*") for member in workspace["members"])}
    for source in (ROOT / "crates").glob("*/src/**/*.rs"):
        included = re.findall(r'include_(?:str|bytes)!\("(.+?)"\)', source.read_text())
        needed |= {(source.parent / path).resolve().relative_to(ROOT.resolve()).as_posix() for path in included}
    missing = {path for path in needed if not any(path == root or path.startswith(f"{root}/") for root in sent)}
    assert missing == set()


# Kubernetes


def documents(name: str) -> dict[str, dict[str, Any]]:
    """The documents of a file, each checked against the schema, under kind and name."""
    found = {}
    for document in yaml.safe_load_all((EXAMPLES / "kubernetes" / name).read_text()):
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
        found[f"{document['kind']}/{document['metadata']['name']}"] = document
    return found


def gib(quantity: str) -> int:
    return int(quantity.removesuffix("Gi"))


def as_kubelet_does(folder: pathlib.Path, data: dict[str, str]) -> None:
    """Lays a ConfigMap out as a volume has it: links through a link to a folder with the date."""
    (folder / "..2026_11_21").mkdir(parents=True)
    (folder / "..data").symlink_to("..2026_11_21")
    for name, text in data.items():
        (folder / "..data" / name).write_text(text)
        (folder / name).symlink_to(f"..data/{name}")
    folder.chmod(0o777)


def test_pods_of_the_daemon_set_fit_what_they_run():
    found = documents("larder.yaml")
    config = tomllib.loads(found["ConfigMap/larder-config"]["data"]["larder.toml"])
    pod = found["DaemonSet/larder"]["spec"]["template"]
    spec, labels = pod["spec"], pod["metadata"]["labels"]
    (container,) = spec["containers"]
    resources = container["resources"]
    assert gib(resources["requests"]["memory"]) == gib(resources["limits"]["memory"]) >= config["l1_size_gb"] + 4
    assert config["runtime_plugin_stop_budget"] < spec["terminationGracePeriodSeconds"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"rpc": config["port"], "http": config["http_port"]}
    assert pod["metadata"]["annotations"]["prometheus.io/port"] == str(config["http_port"])
    for kind in ("Service/larder", "NetworkPolicy/larder"):
        chosen = found[kind]["spec"]
        assert (chosen.get("selector") or chosen["podSelector"]["matchLabels"]) == labels
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    config_folder = str(pathlib.Path(container["args"][-1]).parent)
    assert mounts.keys() >= {*config["runtime_plugin_locations"], config_folder, "/dev/shm"}
    assert volumes[mounts["/dev/shm"]]["hostPath"]["path"] == "/dev/shm"
    assert not spec["enableServiceLinks"] and spec["securityContext"]["runAsNonRoot"]

    engine = documents("engine.yaml")["Deployment/vllm"]["spec"]["template"]
    allowed = found["NetworkPolicy/larder"]["spec"]["ingress"][0]["from"][0]["podSelector"]["matchLabels"]
    assert engine["metadata"]["labels"].items() >= allowed.items()
    assert volumes["shm"] in engine["spec"]["volumes"]
    (vllm,) = engine["spec"]["containers"]
    option = json.loads(vllm["args"][vllm["args"].index("--kv-transfer-config") + 1])["kv_connector_extra_config"]
    service = found["Service/larder"]
    assert option["lmcache.mp.host"] == f"tcp://larder.{service['metadata']['namespace']}.svc"
    assert option["lmcache.mp.port"] == service["spec"]["ports"][0]["port"]


def test_a_server_runs_from_the_config_maps_and_answers_the_probes(own_server, tmp_path):
    found = documents("larder.yaml")
    as_kubelet_does(tmp_path / "config", found["ConfigMap/larder-config"]["data"])
    as_kubelet_does(tmp_path / "plugins", found["ConfigMap/larder-plugins"]["data"])
    (container,) = found["DaemonSet/larder"]["spec"]["template"]["spec"]["containers"]
    # The rest is the command line of every test: ports that are free, a pool that fits.
    server = own_server("--config", str(tmp_path / "config/larder.toml"), "--l1-size-gb", "0.0625",
                        "--runtime-plugin-locations", str(tmp_path / "plugins"), base=False,
                        env={"NODE_NAME": "node-a"})
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert server.http(container[probe]["httpGet"]["path"])[0] == 200
    until(lambda: "[node_heartbeat] alive on node-a" in server.log(), server.log)
    (plugin,) = json.loads(server.http("/plugins")[1])["plugins"]
    assert plugin["name"] == "node_heartbeat" and not plugin.get("notices")
    assert server.stop() == 0


# The page


def test_the_page_names_flags_and_files_that_there_are(server_program):
    text = (ROOT / PAGE).read_text()
    known = known_flags(server_program, "server", "--help-all")
    known |= known_flags(server_program, "config", "check", "--help")
    assert flags(text) <= known | FOREIGN_FLAGS, flags(text) - known - FOREIGN_FLAGS
    assert FOREIGN_FLAGS <= flags(text), f"no longer on the page: {FOREIGN_FLAGS - flags(text)}"
    links = {target.partition("#")[0] for target in re.findall(r"\]\(([^)]+)\)", text) if "://" not in target}
    paths = {(ROOT / PAGE).parent / link for link in links}
    paths |= {ROOT / path for path in re.findall(r"\bexamples/[\w./-]*[\w/]", text)}
    assert paths and [str(path) for path in paths if not path.exists()] == []
    for folder in ("systemd", "container", "kubernetes", "prometheus", "grafana"):
        assert all(f"examples/{folder}/{path.name}" in text for path in (EXAMPLES / folder).iterdir()), folder
    routes = set(re.findall(r"`(/[a-z]+)`", text)) - {"/tmp"}
    reference = (ROOT / "docs/reference/admin-http.md").read_text()
    assert routes and [route for route in routes if not re.search(rf"[ `]{route}`", reference)] == []
