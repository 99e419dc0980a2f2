"""Killing the server and its clients at bad moments: nothing is left behind, nobody reads half an object."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import threading

import pytest

from mpkit.engine import Engine, content, prompt
from mpkit.process import SHM, StartFailed
from mpkit.victim import victim
from mpkit.wait import until

MODEL = "drill"


def l1(server) -> dict[str, int]:
    return server.status()["storage_manager"]["l1_manager"]


@contextlib.contextmanager
def load(server, threads: int = 3):
    """Clients that store and retrieve until the server is gone, and stop quietly then."""
    stop = threading.Event()
    done = []

    def work(number: int) -> None:
        engine = Engine(server, (os.getpid() << 20) + number, model=MODEL)
        # The server is going to die; a client that is left waiting should not hold up the drill.
        engine.worker.answer_s = engine.scheduler.answer_s = 3.0
        try:
            index = 0
            while not stop.is_set():
                tokens = prompt((number, index), 4)
                engine.store(tokens)
                got = engine.fetch(tokens, 4)
                assert got is None or got == [content(tokens, chunk) for chunk in range(4)]
                index += 1
                done.append(index)
        except AssertionError as error:
            # Silence is what a dead server gives; anything else is a finding.
            if "SILENCE" not in str(error) and not stop.is_set():
                raise
        finally:
            engine.close()

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    until(lambda: len(done) > 3 * threads, "clients at work")
    try:
        yield done
    finally:
        stop.set()
        for worker in workers:
            worker.join()


def plugin(folder: pathlib.Path) -> None:
    path = folder / "drill.sh"
    path.write_text('sleep 1000 &\necho "$$ $!" > "$(dirname "$0")/pids.part"\n'
                    'mv "$(dirname "$0")/pids.part" "$(dirname "$0")/pids"\nwait\n')


def running(pid: int) -> bool:
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text[text.rindex(")") + 2] not in "ZX"


@pytest.mark.ours_only
@pytest.mark.parametrize("ending", ["SIGTERM", "SIGKILL"])
def test_the_server_ends_under_load(own_server, tmp_path, ending):
    plugin(tmp_path)
    server = own_server("--runtime-plugin-locations", str(tmp_path))
    until((tmp_path / "pids").exists, "the plugin's process ids")
    pids = [int(text) for text in (tmp_path / "pids").read_text().split()]
    segment = server.pool_path
    with load(server):
        if ending == "SIGTERM":
            assert server.stop() == 0
            assert not segment.exists()
        else:
            server.kill()
        until(lambda: not any(running(pid) for pid in pids), "the end of every plugin process")
    # The name is free again, and nothing of the old life is seen.
    again = own_server(shm_name=server.shm_name)
    with Engine(again, 5, model=MODEL) as engine:
        tokens = prompt((0, 0), 4)
        assert engine.hits(tokens) == 0
        engine.store(tokens)
        assert engine.fetch(tokens, 4) == [content(tokens, chunk) for chunk in range(4)]
    again.stop()
    assert not segment.exists()
    leftovers = [path.name for path in SHM.iterdir() if server.shm_name in path.name]
    assert leftovers == []


@pytest.mark.ours_only
def test_the_segment_of_a_dead_server_is_reclaimed_by_any_other(own_server):
    dead = own_server()
    dead.kill()
    assert dead.pool_path.exists()
    own_server()
    assert not dead.pool_path.exists()


@pytest.mark.ours_only
def test_the_segment_of_a_living_server_is_never_touched(own_server):
    first = own_server()
    inode = first.pool_path.stat().st_ino
    with Engine(first, 6, model=MODEL) as engine:
        tokens = prompt("living", 4)
        engine.store(tokens)
        with contextlib.suppress(StartFailed):
            own_server(shm_name=first.shm_name).stop()
        assert first.pool_path.stat().st_ino == inode
        assert engine.fetch(tokens, 4) == [content(tokens, chunk) for chunk in range(4)]


@pytest.mark.ours_only
def test_a_client_killed_in_mid_store(own_server):
    server = own_server()
    with Engine(server, 7, model=MODEL) as other:
        tokens = prompt("mid-store", 4)
        with victim(server, 8, MODEL, "mid-store", "store") as (process, slots):
            assert slots == 4
            assert l1(server)["staging_object_count"] == 4
            assert other.hits(tokens) == 0
            process.send_signal(signal.SIGKILL)
            process.wait()
            until(lambda: l1(server)["staging_object_count"] == 0, "the victim's slots coming back")
        assert other.hits(tokens) == 0
        assert other.store(tokens) == 4
        assert other.fetch(tokens, 4) == [content(tokens, chunk) for chunk in range(4)]


@pytest.mark.ours_only
def test_a_client_killed_in_mid_retrieve(own_server):
    server = own_server()
    with Engine(server, 9, model=MODEL) as other:
        tokens = prompt("mid-retrieve", 4)
        other.store(tokens)
        with victim(server, 10, MODEL, "mid-retrieve", "retrieve") as (process, slots):
            assert slots == 4
            assert l1(server)["read_locked_count"] == 4
            other.scheduler.call("clear", False)
            assert other.hits(tokens) == 4
            process.send_signal(signal.SIGKILL)
            process.wait()
            until(lambda: l1(server)["read_locked_count"] == 0, "the victim's leases coming back")
        other.scheduler.call("clear", False)
        assert other.hits(tokens) == 0


@pytest.mark.ours_only
def test_nobody_reads_half_an_object(own_server):
    """Writers come and go, readers read all the while: what they get is whole or nothing."""
    server = own_server(l1_size_gb=str(1 / 64))
    stop = threading.Event()
    wrong: list[str] = []
    counts = {"whole": 0, "missed": 0}

    def read(number: int) -> None:
        with Engine(server, 1000 + number, model=MODEL) as engine:
            turn = 0
            while not stop.is_set():
                tokens = prompt(("shared", turn % 50), 4)
                turn += 1
                got = engine.fetch(tokens, 4)
                if got is None:
                    counts["missed"] += 1
                elif got == [content(tokens, chunk) for chunk in range(4)]:
                    counts["whole"] += 1
                else:
                    wrong.append(f"prompt {turn % 50}")

    def write(number: int) -> None:
        with Engine(server, 2000 + number, model=MODEL) as engine:
            turn = number
            while not stop.is_set():
                engine.store(prompt(("shared", turn % 50), 4))
                turn += 7

    threads = [threading.Thread(target=read, args=(n,)) for n in range(2)]
    threads += [threading.Thread(target=write, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    try:
        for round_ in range(5):
            with victim(server, 3000 + round_, MODEL, f"victim-{round_}", "store"):
                pass
        until(lambda: counts["whole"] > 50, "whole objects")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert server.alive()
