"""Servers for the tests: chosen with --server, started once a run where a test does not need its own."""

from __future__ import annotations

import functools
import itertools
import os
import pathlib
import re
import shlex

import pytest

from mpkit.engine import CHUNK, Engine
from mpkit.process import Server

NAMES = ("larder", "peer")

#: Flags of every test server; both servers accept them.
BASE_FLAGS = ["--eviction-policy", "LRU", "--chunk-size", str(CHUNK), "--no-l1-use-lazy"]
SHARED_FLAGS = ["--l1-size-gb", "0.25", "--supported-transfer-mode", "engine_driven"]

_counter = itertools.count()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--server", action="append", default=[], metavar="NAME=COMMAND",
                     help="a server to test: larder=... or peer=... (repeatable)")
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow")
    parser.addoption("--all", action="store_true", help="also run on the reference server what it is known to fail")
    parser.addoption("--torture-rounds", type=int, default=6, help="kills in the torture drill")
    parser.addoption("--fuzz-seconds", type=float, default=20.0, help="length of the fuzzed-frames drill")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow"):
        return
    skip = pytest.mark.skip(reason="needs --slow")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


def commands(config: pytest.Config) -> dict[str, str]:
    chosen = dict(option.split("=", 1) for option in config.getoption("--server"))
    unknown = chosen.keys() - set(NAMES)
    if unknown or not chosen:
        raise pytest.UsageError(f"--server NAME=COMMAND is needed, NAME one of {NAMES}; got {sorted(chosen)}")
    return chosen


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "server_name" in metafunc.fixturenames:
        names = [name for name in NAMES if name in commands(metafunc.config)]
        ours_only = metafunc.definition.get_closest_marker("ours_only")
        metafunc.parametrize("server_name", [n for n in names if n == "larder" or not ours_only or metafunc.config.getoption("--all")], scope="session")
    if "transfer" in metafunc.fixturenames:
        metafunc.parametrize("transfer", ["shm", "pickle"], scope="session")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "ours_only: the reference server has no such thing to compare with")


@pytest.fixture(scope="session")
def log_folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tmp_path_factory.mktemp("servers")


@pytest.fixture(scope="session")
def shared_servers(request: pytest.FixtureRequest, log_folder: pathlib.Path):
    """Started when first asked for; tests on them keep apart by model name and prompt."""
    running: dict[tuple[str, str], Server] = {}

    def get(name: str, transfer: str) -> Server:
        if (name, transfer) not in running:
            shm = unique_shm_name() if transfer == "shm" else ""
            command = commands(request.config)[name]
            server = Server(name, command, log_folder, BASE_FLAGS + SHARED_FLAGS, shm_name=shm)
            running[name, transfer] = server.start()
        return running[name, transfer]

    yield get
    for server in running.values():
        server.__exit__()


def unique_shm_name() -> str:
    return f"test_{os.getpid()}_{next(_counter)}"


@pytest.fixture
def server(server_name: str, shared_servers) -> Server:
    """A shared server with a shared-memory pool."""
    yield from _checked(shared_servers(server_name, "shm"))


@pytest.fixture
def transfer_server(server_name: str, transfer: str, shared_servers) -> Server:
    """A shared server, once with shared memory and once with pickle transfer."""
    yield from _checked(shared_servers(server_name, transfer))


def _checked(server: Server):
    """After each test the server must still serve, whatever the test did to it."""
    yield server
    assert server.running(), f"the server ended\n{server.log()[-4000:]}"
    assert server.alive(), "the server no longer answers a new client"
    assert "panicked at" not in server.log()


@pytest.fixture
def server_program(request: pytest.FixtureRequest, server_name: str) -> str:
    """The program behind the server under test, for tests that have a command line of their own."""
    return shlex.split(commands(request.config)[server_name])[0]


@pytest.fixture
def start_server(request: pytest.FixtureRequest, log_folder: pathlib.Path):
    """A function that starts a server of a given name for this test alone; it is stopped afterwards."""
    started: list[Server] = []

    def start(server_name: str, *flags: str, l1_size_gb: str = "0.0625", shm: bool = True, base: bool = True, mode: str = "engine_driven",
              shm_name: str | None = None, spawn_only: bool = False, env: dict[str, str] | None = None) -> Server:
        name = shm_name or (unique_shm_name() if shm else "")
        every = [*BASE_FLAGS, "--l1-size-gb", l1_size_gb, "--supported-transfer-mode", mode] if base else []
        made = Server(server_name, commands(request.config)[server_name], log_folder, [*every, *flags],
                      shm_name=name, env=env)
        started.append(made)
        return made.spawn() if spawn_only else made.start()

    yield start
    for made in started:
        made.__exit__()
        assert "panicked at" not in made.log()


@pytest.fixture
def own_server(server_name: str, start_server):
    """A function that starts the server under test for this test alone; it is stopped afterwards."""
    return functools.partial(start_server, server_name)


@pytest.fixture
def model(request: pytest.FixtureRequest) -> str:
    """A model name of this test's own, so that tests on one server share nothing."""
    return re.sub(r"[^\w.-]", "-", request.node.name)


@pytest.fixture
def engines(model: str):
    """A function that registers an engine with a server; all are closed afterwards."""
    opened: list[Engine] = []

    def open_engine(server: Server, **fields: object) -> Engine:
        # Like the real client's: random-looking, 63 bits, never reused on one server.
        instance_id = (os.getpid() << 32) + next(_counter) + (1 << 62)
        opened.append(Engine(server, instance_id, **({"model": model} | fields)))
        return opened[-1]

    yield open_engine
    for engine in opened:
        engine.close()


@pytest.fixture
def engine(server: Server, engines) -> Engine:
    return engines(server)


@pytest.fixture
def transfer_engine(transfer_server: Server, engines) -> Engine:
    return engines(transfer_server)


@pytest.fixture
def client(server: Server):
    with server.client() as opened:
        yield opened
