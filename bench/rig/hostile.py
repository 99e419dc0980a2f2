#!/usr/bin/env python3
"""What one hostile connection costs everybody else, and the server's memory.

Each shape runs for some seconds in a process of its own, beside one client that sends a noop every few milliseconds:

    idle         nobody: the noop alone
    trickle      two unfinished messages, of 1 GiB - 1 and of 64 MiB, which then come on by a byte now and then
    long_prompt  lookups of very long prompts for a model that nobody registered
    long_names   lookups with request ids of 4 MB
    deaf_pickle  where chunks travel in messages: 128 retrieves of 32 MiB asked for, no answer read

noop_p99_ms and noop_max_ms are the other client's, noop_lost the noops without an answer for 5 s; memory_mb is what the server
took at most beside what it had before. bare_p99_ms is what the same client sees, in turn with the noops, of a process that only
sends back what it reads: what the machine can do while the hostile client, the server and whatever else runs share its cores.
"""
import multiprocessing, pickle, sys, threading, time
sys.path.insert(0, __file__.rsplit("/", 1)[0])
from measure import *  # noqa

GIVE_UP_S = 5.0
CHUNK = 256


def raw(op, *payloads):
    return zmtp_frames([b"\x01", op_bytes(op), *payloads])


def trickle(port, seconds, quick):
    first = (128 << 20 if quick else 1 << 30) - 1
    links = []
    for length in (first, 64 << 20):
        c = LeanClient(port)
        c.s.settimeout(2.0)
        links.append(c)
        with contextlib.suppress(OSError):
            c.s.sendall(bytes([2]) + struct.pack(">Q", length))
            piece, left = bytes(1 << 20), length - 1
            while left > 0:
                c.s.sendall(piece[:min(left, len(piece))])
                left -= len(piece)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for c in links:
            with contextlib.suppress(OSError):
                c.s.send(b"\0")
        time.sleep(0.2)


def long_prompt(port, seconds, quick):
    end = time.monotonic() + seconds
    sizes = [4 << 20] if quick else [16 << 20, 64 << 20]
    while time.monotonic() < end:
        for ids in sizes:
            key = enc(dict(to_map(make_key([1], "long", model="nobody")), end=ids,
                           token_ids=msgspec.Raw(b"\xdd" + struct.pack(">I", ids) + b"\x01" * ids)))
            with contextlib.suppress(OSError, RpcTimeout):
                c = LeanClient(port, timeout=60)
                c.call_raw(raw("lookup", key, enc(1)))
                c.close()


def long_names(port, seconds, quick):
    end, turn = time.monotonic() + seconds, 0
    with contextlib.suppress(OSError, RpcTimeout):
        c = LeanClient(port, timeout=GIVE_UP_S)
        while time.monotonic() < end and turn < 100:
            turn += 1
            c.call_raw(raw("lookup", enc(make_key([1] * CHUNK, f"{turn}" + "n" * (4 << 20), model="nobody")), enc(1)))
    time.sleep(max(0.0, end - time.monotonic()))


def deaf_pickle(port, seconds, quick):
    toks = tokens(1, 4 * CHUNK)
    key = enc(make_key(toks, "deaf", worker_id=0, readers=128))
    c = LeanClient(port)
    c.s.settimeout(2.0)
    with contextlib.suppress(OSError):
        c.s.sendall(raw("prepare_retrieve", key, enc(1)) * 128)
    time.sleep(seconds)


def prepare_pickle(srv):
    """Four chunks of 8 MiB, looked up for 128 readers."""
    import torch
    c, toks = srv.client(60), tokens(1, 4 * CHUNK)
    # 2 planes x 16 layers x 256 slots x 512 x bf16 = 8 MiB
    c.call("register_kv_cache_engine_driven_context", register_payload(1, 16, 512))
    key = make_key(toks, "deaf", worker_id=0)
    c.call("prepare_store", key, 1)
    data = pickle.dumps([torch.zeros([2, 16, CHUNK, 512], dtype=torch.bfloat16) for _ in range(4)])
    assert c.call("commit_store", key, 1, data) is True
    c.call("lookup", make_key(toks, "deaf", readers=128), 1)
    assert c.call("wait_prefetch_status", "deaf", 10.0) == 4
    return c


def to_map(key):
    return dec(enc(key))


def anonymous_mb(pid):
    for line in open(f"/proc/{pid}/status"):
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    return 0.0


def bare_echo(listener):
    c, _ = listener.accept()
    while data := c.recv(4096):
        c.sendall(data)


def bare():
    """A process that sends back what it reads, and a connection to it."""
    listener = socket.create_server(("127.0.0.1", 0))
    process = multiprocessing.Process(target=bare_echo, args=(listener,), daemon=True)
    process.start()
    return process, socket.create_connection(listener.getsockname())


def watch(srv, attack, seconds, quick):
    before = anonymous_mb(srv.pid)
    peak, over = [before], threading.Event()

    def memory():
        while not over.wait(0.02):
            peak[0] = max(peak[0], anonymous_mb(srv.pid))

    watcher = threading.Thread(target=memory)
    watcher.start()
    attacker = None
    if attack:
        attacker = multiprocessing.Process(target=attack, args=(srv.port, seconds, quick))
        attacker.start()
    lat, lost, c = [], 0, srv.client(GIVE_UP_S)
    echo, link = bare()
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    bare_lat = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        t = time.perf_counter()
        try:
            assert c.call("noop") == "OK"
            lat.append((time.perf_counter() - t) * 1e3)
        except (OSError, RpcTimeout):
            lost += 1
            lat.append(GIVE_UP_S * 1e3)
            with contextlib.suppress(OSError, RpcTimeout):
                c.close()
                c = srv.client(GIVE_UP_S)
        time.sleep(0.0015)
        t = time.perf_counter()
        link.sendall(b"noop")
        link.recv(4096)
        bare_lat.append((time.perf_counter() - t) * 1e3)
        time.sleep(0.0015)
    for process in filter(None, (attacker, echo)):
        process.kill()
        process.join()
    over.set()
    watcher.join()
    return {"noop_p50_ms": round(pct(lat, 50), 3), "noop_p99_ms": round(pct(lat, 99), 3),
            "noop_max_ms": round(max(lat), 2), "noop_lost": lost, "noops": len(lat),
            "memory_mb": round(peak[0] - before), "bare_p99_ms": round(pct(bare_lat, 99), 3)}


def one(label, template, rnd):
    seconds, out = (3 if A.quick else 15), {}
    for shape in (None, trickle, long_prompt, long_names, deaf_pickle):
        name = shape.__name__ if shape else "idle"
        shm = "" if shape is deaf_pickle else "{shm}"
        args = ["--l1-size-gb", "0.25", "--eviction-policy", "LRU", "--supported-transfer-mode", "auto",
                "--shm-name", shm, "--chunk-size", str(CHUNK)]
        with Server(label, template, args) as s:
            kept = prepare_pickle(s) if shape is deaf_pickle else None
            time.sleep(1.0)
            out[name] = watch(s, shape, seconds, A.quick)
            if kept:
                kept.close()
    return out


p = parser(__doc__)
A = p.parse_args()
report(A, run_rounds(A, "hostile", one), [r"ms|lost|memory"])
