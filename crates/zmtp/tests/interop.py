"""libzmq against this crate: `interop.py DIRECTORY_OF_EXAMPLES`.

Needs pyzmq. Uses the examples `echo` (our ROUTER) and `load` (our DEALER). Fails by raising.
"""

import os
import subprocess
import sys
import tempfile
import threading
import time

import zmq
from zmq.utils.monitor import recv_monitor_message

PATIENCE_MS = 30_000
EXAMPLES = sys.argv[1]


class Echo:
    """Our ROUTER in a process of its own; it ends when its standard input does."""

    def __init__(self, *endpoints):
        command = [os.path.join(EXAMPLES, "echo"), *endpoints]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.endpoints = [self.process.stdout.readline().strip() for _ in endpoints]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        code = self.process.wait(PATIENCE_MS / 1000)
        assert code == 0, f"echo ended with {code}"

    def kill(self):
        self.process.kill()
        self.process.wait()


def socket(context, kind, endpoint, **options):
    opened = context.socket(kind)
    opened.linger = 0
    opened.rcvtimeo = opened.sndtimeo = PATIENCE_MS
    for name, value in options.items():
        setattr(opened, name, value)
    opened.connect(endpoint)
    return opened


def expect_echo(opened, parts):
    opened.send_multipart(parts)
    assert opened.recv_multipart() == parts


def check_sizes(context, endpoint):
    with socket(context, zmq.DEALER, endpoint) as dealer:
        for size in [0, 1, 254, 255, 256, 257, 8191, 8192, 8193, 65535, 65536, 65537, 1 << 20, 32 << 20]:
            expect_echo(dealer, [b"id", bytes(size)])
        expect_echo(dealer, [b""])
        expect_echo(dealer, [b"", b"", b""])
        expect_echo(dealer, [b"x"] * 1024)
        expect_echo(dealer, [b"answer me", b"later"])


def check_types(context, endpoint):
    with socket(context, zmq.REQ, endpoint) as req:
        for number in range(100):
            req.send(b"%d" % number)
            assert req.recv() == b"%d" % number
    with socket(context, zmq.DEALER, endpoint, routing_id=b"twin") as first:
        with socket(context, zmq.DEALER, endpoint, routing_id=b"twin") as second:
            expect_echo(first, [b"1"])
            expect_echo(second, [b"2"])
            expect_echo(first, [b"3"])


def check_pipelining(context, endpoint):
    with socket(context, zmq.DEALER, endpoint, sndhwm=0, rcvhwm=0) as dealer:
        for number in range(20_000):
            dealer.send_multipart([b"%d" % number, bytes(number % 3000)])
        for number in range(20_000):
            assert dealer.recv_multipart() == [b"%d" % number, bytes(number % 3000)]


def check_many_clients(context, endpoint):
    dealers = [socket(context, zmq.DEALER, endpoint) for _ in range(200)]
    for number, dealer in enumerate(dealers):
        dealer.send(b"%d" % number)
    for number, dealer in enumerate(dealers):
        assert dealer.recv() == b"%d" % number
        dealer.close()


def check_heartbeats(context, endpoint):
    options = {"heartbeat_ivl": 50, "heartbeat_timeout": 500, "heartbeat_ttl": 1000}
    with socket(context, zmq.DEALER, endpoint, **options) as dealer:
        expect_echo(dealer, [b"connected"])
        monitor = dealer.get_monitor_socket()
        # Long enough for several heartbeats to be missed.
        assert not monitor.poll(1500), recv_monitor_message(monitor)
        expect_echo(dealer, [b"still connected"])
        dealer.disable_monitor()


def check_refusals(context, endpoint):
    """A PUB socket and a CURVE client never finish their handshake."""
    public, secret = zmq.curve_keypair()
    curve = {"curve_serverkey": public, "curve_publickey": public, "curve_secretkey": secret}
    for kind, options in [(zmq.PUB, {}), (zmq.DEALER, curve)]:
        opened = context.socket(kind)
        opened.linger = 0
        for name, value in options.items():
            setattr(opened, name, value)
        failures = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
        failures |= zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_DISCONNECTED
        monitor = opened.get_monitor_socket(failures | zmq.EVENT_HANDSHAKE_SUCCEEDED)
        opened.connect(endpoint)
        assert monitor.poll(PATIENCE_MS), "nothing happened"
        event = recv_monitor_message(monitor)["event"]
        assert event != zmq.EVENT_HANDSHAKE_SUCCEEDED, event
        opened.disable_monitor()
        opened.close()


def check_restart(context, directory):
    """A killed server leaves its ipc path; the next one takes it over and the same client socket goes on."""
    path = f"ipc://{directory}/restart"
    first = Echo(path, "tcp://127.0.0.1:0")
    endpoints = first.endpoints
    dealers = [socket(context, zmq.DEALER, endpoint, reconnect_ivl=10) for endpoint in endpoints]
    for dealer in dealers:
        expect_echo(dealer, [b"before"])
    first.kill()
    with Echo(*endpoints):
        for dealer in dealers:
            deadline = time.monotonic() + PATIENCE_MS / 1000
            # What is sent before libzmq notices the end is lost.
            while True:
                dealer.send(b"after")
                if dealer.poll(100):
                    break
                assert time.monotonic() < deadline, "no answer after the restart"
            assert dealer.recv() == b"after"
            dealer.close()


def check_dealer(context, directory):
    """Our DEALER against libzmq's ROUTER."""
    for endpoint in ["tcp://127.0.0.1:*", f"ipc://{directory}/router"]:
        router = context.socket(zmq.ROUTER)
        router.linger = 0
        router.sndhwm = router.rcvhwm = 0
        router.bind(endpoint)
        stop = threading.Event()

        def serve():
            while not stop.is_set():
                if router.poll(20):
                    router.send_multipart(router.recv_multipart())

        server = threading.Thread(target=serve)
        server.start()
        bound = router.last_endpoint.decode()
        for size, in_flight, messages in [(256, 1, 1000), (100, 100, 20_000), (3_000_000, 4, 40)]:
            command = [os.path.join(EXAMPLES, "load"), bound, str(size), str(in_flight), str(messages)]
            subprocess.run(command, check=True, timeout=PATIENCE_MS / 1000)
        stop.set()
        server.join()
        router.close()


def main():
    print(f"libzmq {zmq.zmq_version()}, pyzmq {zmq.__version__}")
    context = zmq.Context()
    with tempfile.TemporaryDirectory() as directory:
        endpoints = ["tcp://127.0.0.1:0", f"ipc://{directory}/echo", f"ipc://@larder-interop-{os.getpid()}"]
        with Echo(*endpoints) as echo:
            for endpoint in echo.endpoints:
                for check in [
                    check_sizes,
                    check_types,
                    check_pipelining,
                    check_many_clients,
                    check_heartbeats,
                    check_refusals,
                    check_types,
                ]:
                    check(context, endpoint)
                    print(f"ok {check.__name__} {endpoint}", flush=True)
        check_restart(context, directory)
        print("ok check_restart", flush=True)
        check_dealer(context, directory)
        print("ok check_dealer", flush=True)
    context.term()


if __name__ == "__main__":
    main()
