#!/usr/bin/env python3
"""The second tier of an MP cache server: a directory.

limit_*: fio in the same directory, one file an object, 16 in flight, through the page cache and around it, same round.
store_through: GB/s from the first prepare_store until every byte is in a file. prefetch: the pool is cleared, then lookup and
wait_prefetch_status bring the prompts back; restart: the same with a new server on the same directory. Half of what is read
back is compared byte by byte. *_vs_fio: share of the fio number of the same kind.
first_hit: a new server on a directory of many small files; from its start, and from its first answer, to the first prompt
found and read.
lookup: lookup and wait of a prompt that is in memory, with a second tier and without one.
stream: 8 x the pool's capacity in unique chunks through a pool with a second tier; latency of prepare_store, chunks refused.
"""
import hashlib, sys
sys.path.insert(0, __file__.rsplit("/", 1)[0])
from measure import *  # noqa
import numpy as np

GIB = 2**30
IN_FLIGHT = 16


TRASH = []


def discard(directory):
    """Puts a directory aside until the round is over: ext4 looks long for an inode that was not freed lately, and what is left
    to be written would be written during the next measurement."""
    TRASH.append(directory)
    os.sync()


def fio(directory, chunk, count):
    """GB/s of fio on files of `chunk` bytes, new ones when writing: best of three, as the first pass warms memory."""
    out = {}
    for kind, direct in (("", 0), ("_direct", 1)):
        for rw in ("write", "read"):
            best = 0
            for _ in range(3):
                if rw == "write":
                    where = tempfile.mkdtemp(prefix="l2_fio_", dir=directory)
                    discard(where)
                command = ["fio", "--name=l2", f"--directory={where}", f"--rw={rw}", f"--bs={chunk}", f"--filesize={chunk}",
                           f"--nrfiles={count}", f"--openfiles={IN_FLIGHT}", "--file_service_type=sequential", "--fallocate=none",
                           "--create_on_open=1", f"--direct={direct}", f"--iodepth={IN_FLIGHT if direct else 1}",
                           "--ioengine=" + ("libaio" if direct else "psync"), "--invalidate=0", "--output-format=json"]
                done = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
                best = max(best, done["jobs"][0][rw]["bw_bytes"] / 1e9)
            out[f"limit_{rw}{kind}_GBps"] = round(best, 3)
    os.sync()
    return out


def files(directory):
    count = size = 0
    for root, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(OSError):
                if name.endswith(".data"):
                    size += os.stat(os.path.join(root, name)).st_size
                    count += 1
    return count, size


def arguments(gb, adapter=None):
    args = ["--l1-size-gb", f"{gb:.2f}", "--eviction-policy", "LRU", "--supported-transfer-mode", "auto", "--shm-name", "{shm}"]
    return args + (["--l2-adapter", json.dumps(adapter)] if adapter else []) + A.server_args.split()


def settle(server, limit_s=30):
    """Waits until a fresh server has prepared its pool and idles."""
    end, used = time.monotonic() + limit_s, server.cpu_s()
    while time.monotonic() < end:
        time.sleep(0.5)
        used, before = server.cpu_s(), used
        if used - before < 0.05:
            return


class Session:
    """A registered worker of a running server."""

    def __init__(self, server, layers, hidden, settled=True):
        self.server, self.c = server, server.client(120)
        reply = self.c.call("register_kv_cache_engine_driven_context", register_payload(1, layers, hidden))
        self.pool_bytes, self.pool = reply["pool_size"], Pool(reply["shm_name"], reply["pool_size"])
        if settled:
            settle(server)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.pool.close()
        self.c.close()

    def copy_in(self, source):
        def fill(slots):
            for index, slot in enumerate(slots):
                at, length = slot["offset"], slot["length"]
                np.copyto(self.pool.a[at:at + length], source[index * length:(index + 1) * length])
        return fill

    def read_back(self, toks, rid, source, compare=True):
        """Looks a prompt up and reads it; returns chunks found, seconds until that was known and chunks that were wrong."""
        start = time.perf_counter()
        hits = lookup_hits(self.c, toks, rid, 30.0) or 0
        took, wrong = time.perf_counter() - start, 0
        if hits:
            key = make_key(toks[:hits * 256], rid, worker_id=0)
            slots = (self.c.call("prepare_retrieve", key, 1).get("context") or {}).get("slots") or []
            wrong = hits - len(slots)
            for index, slot in enumerate(slots if compare else ()):
                at, length = slot["offset"], slot["length"]
                wrong += not np.array_equal(self.pool.a[at:at + length], source[index * length:(index + 1) * length])
            self.c.call("commit_retrieve", key, 1)
        self.c.call("end_session", rid)
        return hits, took, wrong


def prefetch(session, prompts, source, chunk, limits, tag):
    found = wrong = 0
    latencies, cpu = [], session.server.cpu_s()
    for index, toks in enumerate(prompts):
        hits, took, bad = session.read_back(toks, f"{tag}{index}", source, index % 2 == 0)
        found, wrong = found + hits, wrong + bad
        latencies.append(took)
    rate = found * chunk / sum(latencies) / 1e9
    want = len(prompts) * len(source) / chunk
    return {"GBps": round(rate, 3), "vs_fio": round(rate / limits, 3), "request_p50_ms": round(pct(latencies, 50) * 1e3, 2),
            "request_p99_ms": round(pct(latencies, 99) * 1e3, 2), "hit_pct": round(100 * found / want, 2), "wrong": wrong,
            "srv_cpu_ms_per_gib": round((session.server.cpu_s() - cpu) * 1e3 / (want * chunk / GIB), 1)}


def throughput(label, template, adapter, layers, hidden, total, per_request, seed, limits):
    chunk = layers * 2 * 256 * hidden * 2
    count = total // (chunk * per_request)
    want = count * per_request * chunk
    directory = tempfile.mkdtemp(prefix=f"l2_{label}_", dir=A.dir)
    direct = "_direct" if adapter.get("use_odirect") else ""
    args = arguments(want / GIB * 1.6 + 0.25, adapter | {"base_path": directory})
    source = np.random.default_rng(3).integers(0, 255, chunk * per_request, dtype=np.uint8)
    prompts = [tokens(seed + index, per_request * 256) for index in range(count)]
    out = {}
    try:
        with Server(label, template, args) as s, Session(s, layers, hidden) as session:
            cpu, start, lost = s.cpu_s(), time.perf_counter(), 0
            for index, toks in enumerate(prompts):
                lost += per_request - len(store_prompt(session.c, toks, f"s{index}", touch=session.copy_in(source)))
                session.c.call("end_session", f"s{index}")
            stored = time.perf_counter()
            done, size, grew = stored, 0, stored
            while size < want - lost * chunk and time.perf_counter() < grew + 3:
                now = files(directory)[1]
                if now > size:
                    size, done = now, time.perf_counter()
                    grew = done
                time.sleep(0.005)
            rate = size / (done - start) / 1e9
            out = {"l1_store_GBps": round(want / (stored - start) / 1e9, 3), "store_through_GBps": round(rate, 3),
                   "store_vs_fio": round(rate / limits[f"limit_write{direct}_GBps"], 3), "refused_chunks": lost,
                   "missing_files": count * per_request - files(directory)[0],
                   "store_cpu_ms_per_gib": round((s.cpu_s() - cpu) * 1e3 / (want / GIB), 1)}
            time.sleep(0.3)
            session.c.call("clear", True, timeout=60)
            read_limit = limits[f"limit_read{direct}_GBps"]
            out["prefetch"] = prefetch(session, prompts, source, chunk, read_limit, "a")
        with Server(label, template, args) as s, Session(s, layers, hidden) as session:
            out["restart"] = prefetch(session, prompts, source, chunk, read_limit, "r")
            out["log"] = s.log_problems()
    finally:
        discard(directory)
    return out


def index_complete(server):
    def find(value):
        if isinstance(value, dict):
            return value.get("index_complete", any(find(inner) for inner in value.values()))
        return isinstance(value, list) and any(find(inner) for inner in value)
    return find(server.http("/status"))


def first_hit(label, template, adapter, count):
    """Start of a server on a directory of `count` files that it did not write itself."""
    directory = tempfile.mkdtemp(prefix=f"l2_{label}_", dir=A.dir)
    layers, hidden, chunk = 1, 4, 4096
    args = arguments(0.25, adapter | {"base_path": directory})
    toks, source = tokens(77, 256), np.full(chunk, 7, dtype=np.uint8)
    try:
        with Server(label, template, args) as s, Session(s, layers, hidden) as session:
            store_prompt(session.c, toks, "s", touch=session.copy_in(source))
            end = time.monotonic() + 20
            while files(directory)[0] < 1 and time.monotonic() < end:
                time.sleep(0.01)
            time.sleep(0.3)
        name = next(name for name in os.listdir(directory) if name.endswith(".data"))
        model, rank, group, _ = name.removesuffix(".data").split("@")[:4]
        for index in range(count):
            digest = hashlib.sha256(index.to_bytes(8, "big")).hexdigest()
            with open(f"{directory}/{model}@{rank}@{group}@{digest}.data", "wb") as file:
                file.write(source)
        with Server(label, template, args) as s, Session(s, layers, hidden, settled=False) as session:
            hits, took, wrong = session.read_back(toks, "r", source)
            out = {"ms_from_start": round((time.monotonic() - s.t0) * 1e3, 1), "ms_from_ready": round(took * 1e3, 2),
                   "ready_ms": round(s.t_rpc * 1e3, 1), "hits": hits, "wrong": wrong, "files": count + 1}
            if label != "peer":
                while not index_complete(s) and time.monotonic() < s.t0 + 60:
                    time.sleep(0.01)
                out["index_complete_ms"] = round((time.monotonic() - s.t0) * 1e3, 1)
            return out
    finally:
        discard(directory)


def lookup_in_memory(label, template, adapter, seed):
    """Latency of a lookup that memory can answer, servers with and without a second tier asked in turn."""
    directory = tempfile.mkdtemp(prefix=f"l2_{label}_", dir=A.dir)
    chunks, rounds = 32, 300 if A.quick else 2000
    toks, source = tokens(seed, chunks * 256), np.zeros(16384 * chunks, dtype=np.uint8)
    try:
        with contextlib.ExitStack() as stack:
            sessions = {}
            for name, chosen in (("l1", None), ("l2", adapter | {"base_path": directory})):
                s = stack.enter_context(Server(label, template, arguments(0.25, chosen)))
                session = sessions[name] = stack.enter_context(Session(s, 1, 16))
                store_prompt(session.c, toks, "s", touch=session.copy_in(source))
                session.c.call("end_session", "s")
            time.sleep(1)
            latencies = {name: [] for name in sessions}
            for index in range(rounds):
                for name, session in sessions.items():
                    key, rid = enc(make_key(toks, f"q{index}")), f"q{index}"
                    frames = (session.c.frame("lookup", key, enc(1)), session.c.frame("wait_prefetch_status", enc(rid), enc(10.0)))
                    start = time.perf_counter()
                    session.c.call_raw(frames[0])
                    hits = dec(session.c.call_raw(frames[1]))
                    latencies[name].append((time.perf_counter() - start) * 1e6)
                    assert hits == chunks, f"{hits} of {chunks} chunks found"
                    session.c.call("free_lookup_locks", make_key(toks, rid), 1)
                    session.c.call("end_session", rid)
        out = {f"{name}_{p}_us": stats_us(values)[f"{p}_us"] for name, values in latencies.items() for p in ("p50", "p99")}
        return out | {"l2_over_l1_p50": round(out["l2_p50_us"] / out["l1_p50_us"], 3)}
    finally:
        discard(directory)


def stream(label, template, adapter, gb, seed):
    """Unique chunks of 1 MiB, four to a request, as fast as they are taken."""
    directory = tempfile.mkdtemp(prefix=f"l2_{label}_", dir=A.dir)
    chunk, per_request = 2**20, 4
    source = np.random.default_rng(5).integers(0, 255, chunk * per_request, dtype=np.uint8)
    try:
        with Server(label, template, arguments(gb, adapter | {"base_path": directory})) as s, Session(s, 4, 256) as session:
            count = int(8 * session.pool_bytes) // (chunk * per_request)
            fill, latencies, refused, failed = session.copy_in(source), [], 0, 0
            cpu, began = s.cpu_s(), time.perf_counter()
            for index in range(count):
                key = make_key(tokens(seed + index, 256 * per_request), f"e{index}", worker_id=0)
                frames = (session.c.frame("prepare_store", enc(key), enc(1)),
                          session.c.frame("commit_store", enc(key), enc(1), enc(b"")))
                start = time.perf_counter()
                reply = dec(session.c.call_raw(frames[0]))
                latencies.append((time.perf_counter() - start) * 1e6)
                slots = (reply.get("context") or {}).get("slots") or []
                refused += per_request - len(slots)
                fill(slots)
                failed += bool(slots) and dec(session.c.call_raw(frames[1])) is not True
                session.c.call("end_session", f"e{index}")
            elapsed = time.perf_counter() - began
            end, last = time.monotonic() + 60, -1
            while time.monotonic() < end and files(directory)[0] != last:
                last = files(directory)[0]
                time.sleep(0.5)
            st = stats_us(latencies)
            return {"chunks": count * per_request, "refused_chunks": refused, "failed_commits": failed,
                    "GBps": round((count * per_request - refused) * chunk / elapsed / 1e9, 3),
                    "prepare_p50_us": st["p50_us"], "prepare_p99_us": st["p99_us"], "prepare_max_us": st["max_us"],
                    "in_l2_pct": round(100 * last / (count * per_request), 1),
                    "srv_cpu_ms_per_gib": round((s.cpu_s() - cpu) * 1e3 / (count * per_request * chunk / GIB), 1),
                    "log": s.log_problems()}
    finally:
        discard(directory)


def one(label, template, rnd):
    total, out = (GIB // 4 if A.quick else GIB), {}
    adapters = [json.loads(text) for text in A.adapter or ['{"type": "fs"}', '{"type": "fs", "use_odirect": true}',
                                                           '{"type": "fs_native"}']]

    def case(name, run):
        if A.only and not re.search(A.only, name):
            return
        try:
            out[name] = run()
        except Exception as error:  # a failed case is a result, too
            import traceback
            traceback.print_exc()
            out[name] = {"error": f"{type(error).__name__}: {error}"[:1500]}

    for mib, geometry in ((1, (4, 256)), (4, (4, 1024))):
        if A.only and not re.search(A.only, f"MiB{mib}"):
            continue
        limits = out[f"fio_{mib}MiB"] = fio(A.dir, mib * 2**20, total // (mib * 2**20))
        for adapter in adapters:
            name = adapter["type"] + ("_direct" if adapter.get("use_odirect") else "")
            case(f"{name}_MiB{mib}", lambda: throughput(label, template, adapter, *geometry, total, 16 // mib,
                                                        300_000_000 + rnd * 1_000_000, limits))
    case("lookup", lambda: lookup_in_memory(label, template, adapters[0], 900_000 + rnd))
    case("stream", lambda: stream(label, template, adapters[0], 0.25 if A.quick else 0.5, 500_000_000 + rnd * 1_000_000))
    case("first_hit", lambda: first_hit(label, template, adapters[0], 10_000 if A.quick else 100_000))
    while TRASH:
        shutil.rmtree(TRASH.pop(), ignore_errors=True)
    return out


p = parser(__doc__, rounds=2)
p.add_argument("--server-args", default="")
p.add_argument("--dir", default=SCRATCH, help="where the directories are made")
p.add_argument("--adapter", action="append", help="adapter JSON (repeatable); base_path is set by the benchmark")
p.add_argument("--only", help="only cases whose name matches this")
A = p.parse_args(); A.warm_gib = 6
report(A, run_rounds(A, "l2", one))
