"""Someone who follows a page of the documentation: runs what stands in its fenced blocks, as it stands there."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

from .wait import until

ROOT = pathlib.Path(__file__).resolve().parents[3]
COMMAND_S = 300.0
START_S = 400.0
STOP_S = 30.0


def blocks(page: str, heading: str, language: str = "sh") -> list[str]:
    """The fenced blocks of one language below a heading, up to the next heading of its level."""
    text = (ROOT / page).read_text()
    level = heading.split(" ")[0]
    (section,) = re.findall(rf"^{re.escape(heading)}\n(.*?)(?=^{level} |\Z)", text, re.DOTALL | re.MULTILINE)
    return re.findall(rf"^```{language}\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)


class Reader:
    """Runs blocks in a folder that looks like a checkout with `larder` installed; each block is a terminal of its own.

    `replaced` are the texts that have to be others here: ports that are taken, sizes for a large machine.
    """

    def __init__(self, folder: pathlib.Path, larder: str, replaced: dict[str, str]) -> None:
        self.folder, self.replaced = folder, replaced
        for name in ("tests", "examples", "crates"):
            (folder / name).symlink_to(ROOT / name)
        (folder / ".venv").symlink_to(sys.prefix)
        (folder / "bin").mkdir()
        program = shutil.which(larder)
        assert program, f"there is no program `{larder}`"
        (folder / "bin" / "larder").symlink_to(pathlib.Path(program).resolve())
        self.environment = os.environ | {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}

    def text(self, block: str) -> str:
        for written, here in self.replaced.items():
            block = block.replace(written, here)
        return block

    def run(self, block: str) -> str:
        """Runs a block to its end and returns what it printed; a command that fails fails the test."""
        done = subprocess.run(
            ["bash", "-euxo", "pipefail", "-c", self.text(block)], cwd=self.folder, env=self.environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=COMMAND_S)
        assert done.returncode == 0, f"exit {done.returncode}\n{done.stderr}\n{done.stdout}"
        return done.stdout

    @contextlib.contextmanager
    def terminal(self, block: str, ready: Callable[[], bool], **environment: str) -> Iterator[pathlib.Path]:
        """Runs a block that goes on until Ctrl-C; the value is the file with what it prints."""
        log = self.folder / f"terminal-{len(list(self.folder.glob('terminal-*')))}.log"
        with open(log, "wb") as output:
            process = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", self.text(block)], cwd=self.folder, stdin=subprocess.DEVNULL,
                env=self.environment | environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)

        def serves() -> bool:
            assert process.poll() is None, f"exit {process.returncode}\n{log.read_text()[-6000:]}"
            return ready()

        try:
            until(serves, lambda: log.read_text()[-6000:], START_S)
            yield log
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
