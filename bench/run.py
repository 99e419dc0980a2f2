#!/usr/bin/env python3
"""Runs the macro benchmarks, this repository's server and the reference server in turn in one run.

    python bench/run.py [NAME...] [--rounds N] [--quick] [--note TEXT] [--ours COMMAND] [--peer COMMAND]

NAME is one or more of rpc, lifecycle, transfer, eviction, l2, plugins, hostile, faults, visibility; without any, all but the last three.
Results go to bench/runs/DATE-COMMIT/: one JSON with every round and one table a benchmark, and the commands used.
"""

from __future__ import annotations

import argparse
import datetime
import json
import pathlib
import shlex
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
SCRIPTS = {
    "rpc": "rpc.py",
    "lifecycle": "lifecycle.py",
    "transfer": "transfer.py",
    "eviction": "eviction.py",
    "l2": "l2.py",
    "plugins": "plugins.py",
    "hostile": "hostile.py",
    "faults": "probe_faults.py",
    "visibility": "probe_visibility.py",
}
USUAL = ["rpc", "lifecycle", "transfer", "eviction", "l2", "plugins"]
FLAGS = "server --port {port} --http-port {http_port} {args}"


def output(*command: str) -> str:
    return subprocess.run(command, cwd=HERE, check=True, capture_output=True, text=True).stdout.strip()


def release_binary() -> pathlib.Path:
    metadata = json.loads(output("cargo", "metadata", "--format-version", "1", "--no-deps"))
    return pathlib.Path(metadata["target_directory"]) / "release" / "larder"


def folder() -> pathlib.Path:
    commit = output("git", "rev-parse", "--short", "HEAD")
    dirty = "+" if output("git", "status", "--porcelain", "--untracked-files=no") else ""
    made = HERE / "runs" / f"{datetime.date.today().isoformat()}-{commit}{dirty}"
    made.mkdir(parents=True, exist_ok=True)
    return made


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(SCRIPTS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="smaller sizes, to see that it runs")
    parser.add_argument("--note", default="", help="a line for the run's README")
    parser.add_argument("--ours", default=None, help="command of our server, without flags")
    parser.add_argument("--peer", default=str(pathlib.Path(sys.executable).parent / "lmcache"))
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in SCRIPTS]
    if unknown:
        parser.error(f"unknown benchmark {', '.join(unknown)}; there are {', '.join(SCRIPTS)}")
    ours = arguments.ours or str(release_binary())
    into = folder()
    failed = []
    for name in arguments.names or USUAL:
        command = [sys.executable, str(HERE / "rig" / SCRIPTS[name]), "--rounds", str(arguments.rounds),
                   "--server", f"peer={arguments.peer} {FLAGS}", "--server", f"ours={ours} {FLAGS}",
                   "--out", str(into / f"{name}.json")] + ["--quick"] * arguments.quick
        print(shlex.join(command), flush=True)
        with open(into / f"{name}.txt", "w") as table:
            done = subprocess.run(command, stdout=table)
        print((into / f"{name}.txt").read_text(), flush=True)
        if done.returncode != 0:
            failed.append(name)
    with open(into / "README.md", "a") as readme:
        readme.write(f"`{shlex.join(['bench/run.py', *sys.argv[1:]])}`\n\n{arguments.note}\n\n".replace("\n\n\n\n", "\n\n"))
    if failed:
        print("failed:", ", ".join(failed), file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
