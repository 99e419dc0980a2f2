"""Shared parts of the LMCache multiprocess (MP) cache-server benchmarks.

Everything here looks at a server from outside: it starts it as a process,
talks to its ZMQ port, and reads /proc. lmcache (the peer) is imported for the
wire types and operation ids; none of its code is copied.
"""
from __future__ import annotations

import argparse, contextlib, datetime, json, mmap, os, platform, random, re
import shlex, shutil, signal, socket, statistics, struct, subprocess, sys
import tempfile, threading, time, urllib.request

os.environ.setdefault("LMCACHE_TRACK_USAGE", "false")
os.environ.setdefault("LMCACHE_DISABLE_BANNER", "1")
os.environ.setdefault("LMCACHE_LOG_LEVEL", "WARNING")

import msgspec  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
SCRATCH = os.environ.get("BENCH_SCRATCH", os.path.join(os.environ.get("TMPDIR", "/tmp"), "bench_scratch"))
os.makedirs(SCRATCH, exist_ok=True)
CLK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
DEFAULT_PEER = os.environ.get("PEER_LMCACHE", "lmcache") + " server --port {port} --http-port {http_port} {args}"
MODEL = "bench-model"


# ------------------------------------------------------------------ wire
def _wire():
    from lmcache.v1.multiprocess.transport.zmq_impl.wire import encode_operation
    return encode_operation


_OPS: dict[str, bytes] = {}


def op_bytes(op: str) -> bytes:
    if op not in _OPS:
        _OPS[op] = _wire()(op)
    return _OPS[op]


enc = msgspec.msgpack.encode
dec = msgspec.msgpack.decode


def make_key(tokens, request_id, start=0, end=None, worker_id=None, world_size=1,
             readers=1, model=MODEL, salt=""):
    """An IPCCacheServerKey of the peer's own class (msgspec encodes it as a map)."""
    from lmcache.v1.multiprocess.custom_types import IPCCacheServerKey
    return IPCCacheServerKey(model_name=model, world_size=world_size, worker_id=worker_id,
                             token_ids=tuple(tokens), start=start,
                             end=len(tokens) if end is None else end,
                             request_id=request_id, cache_salt=salt, num_kv_readers=readers)


def register_payload(instance_id, layers, hidden, slots=256, block=16, dtype="bfloat16",
                     mla=False, model=MODEL):
    from lmcache.v1.multiprocess.custom_types import RegisterEngineDrivenContextPayload
    return RegisterEngineDrivenContextPayload(
        instance_id=instance_id, model_name=model, world_size=1, block_size=block,
        num_layers=layers, hidden_dim_size=hidden, dtype_str=dtype, use_mla=mla,
        num_physical_slots=slots)


def tokens(seed: int, n: int) -> list[int]:
    """n random token ids; the first names the seed, so prompts never share a prefix."""
    r = random.Random(seed)
    return [seed & 0x7FFFFFFF] + [r.randrange(128256) for _ in range(n - 1)]


def zmtp_frames(parts: list[bytes]) -> bytes:
    out = bytearray()
    last = len(parts) - 1
    for i, p in enumerate(parts):
        more = 1 if i < last else 0
        if len(p) > 255:
            out += bytes([more | 2]) + struct.pack(">Q", len(p))
        else:
            out += bytes([more, len(p)])
        out += p
    return bytes(out)


class RpcTimeout(Exception):
    pass


class LeanClient:
    """Synchronous DEALER over a plain TCP socket (ZMTP 3.0, NULL mechanism).

    About 10 us per call of client work: no libzmq thread, no futures.
    """

    def __init__(self, port, host="127.0.0.1", timeout=20.0):
        self.s = socket.create_connection((host, port), timeout=timeout)
        self.s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.s.sendall(b"\xff" + b"\0" * 8 + b"\x7f\x03\x00NULL" + b"\0" * 16 + b"\0" * 32)
        self.buf = bytearray()
        self._need(64)
        del self.buf[:64]
        body = b"\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0\0"
        self.s.sendall(bytes([4, len(body)]) + body)
        self.uid = 0
        self._frame()  # READY

    def close(self):
        self.s.close()

    def _need(self, n):
        while len(self.buf) < n:
            try:
                d = self.s.recv(1 << 18)
            except (TimeoutError, socket.timeout):
                raise RpcTimeout("no reply") from None
            if not d:
                raise ConnectionError("server closed the connection")
            self.buf += d

    def _frame(self):
        self._need(2)
        fl = self.buf[0]
        if fl & 2:
            self._need(9)
            n, h = struct.unpack_from(">Q", self.buf, 1)[0], 9
        else:
            n, h = self.buf[1], 2
        self._need(h + n)
        f = bytes(self.buf[h:h + n])
        del self.buf[:h + n]
        return fl, f

    def recv(self):
        parts = []
        while True:
            fl, f = self._frame()
            if fl & 4:
                continue
            parts.append(f)
            if not fl & 1:
                return parts

    def frame(self, op, *payloads):
        """A complete ready-to-send message (payloads already msgpack bytes)."""
        self.uid += 1
        return zmtp_frames([enc(self.uid), op_bytes(op), *payloads])

    def send(self, raw):
        self.s.sendall(raw)

    def call_raw(self, raw):
        self.s.sendall(raw)
        p = self.recv()
        return p[2] if len(p) > 2 else None

    def call(self, op, *args, timeout=None):
        """Encode args, call, return the decoded reply (None for void)."""
        if timeout is not None:
            self.s.settimeout(timeout)
        raw = self.call_raw(self.frame(op, *[enc(a) for a in args]))
        return None if raw is None else dec(raw)


def store_prompt(c: LeanClient, toks, rid, instance_id=1, touch=None):
    """prepare_store + commit_store of all chunks; returns number of slots given."""
    k = make_key(toks, rid, worker_id=0)
    r = c.call("prepare_store", k, instance_id)
    slots = (r.get("context") or {}).get("slots") or []
    if touch:
        touch(slots)
    if slots:
        c.call("commit_store", k, instance_id, b"")
    return slots


def lookup_hits(c: LeanClient, toks, rid, timeout=10.0):
    k = make_key(toks, rid)
    c.call("lookup", k, 1)
    return c.call("wait_prefetch_status", rid, float(timeout))


# ------------------------------------------------------------------ servers
class Server:
    """One server process under test, started from a command template."""

    _n = 0
    base_port = int(os.environ.get("BENCH_PORT", "5700"))

    def __init__(self, label, template, args=(), keep_log=False, env=None):
        self.label, self.template, self.args = label, template, list(args)
        Server._n += 1
        i = Server._n % 80
        self.port = free_port(self.base_port + i)
        self.http_port = free_port(self.base_port + 3000 + i)
        self.shm = f"bench_{os.getpid()}_{Server._n}"
        self.log = os.path.join(SCRATCH, f"server_{label}_{os.getpid()}_{Server._n}.log")
        self.keep_log, self.env = keep_log, env or {}
        self.p = None

    def cmdline(self):
        a = " ".join(shlex.quote(x.format(shm=self.shm, port=self.port)
                                 if x in ("{shm}",) else x) for x in self.args)
        t = self.template if "{args}" in self.template else self.template + " {args}"
        return t.replace("{port}", str(self.port)).replace("{http_port}", str(self.http_port)) \
                .replace("{shm}", self.shm).replace("{args}", a)

    def start(self, wait=True, http=True, timeout=120):
        env = dict(os.environ, LMCACHE_TRACK_USAGE="false", LMCACHE_DISABLE_BANNER="1", **self.env)
        if os.environ.get("BENCH_SERVER_LOG"):
            env["LMCACHE_LOG_LEVEL"] = os.environ["BENCH_SERVER_LOG"]
        else:
            env.pop("LMCACHE_LOG_LEVEL", None)
        self.t0 = time.monotonic()
        self.logf = open(self.log, "wb")
        self.p = subprocess.Popen(shlex.split(self.cmdline()), stdout=self.logf,
                                  stderr=subprocess.STDOUT, env=env, start_new_session=True)
        self.pid = self.p.pid
        self.t_rpc = self.t_http = None
        if wait:
            self.wait_ready(http, timeout)
        return self

    def wait_ready(self, http=True, timeout=120, poll=0.01):
        end = time.monotonic() + timeout
        while time.monotonic() < end and (self.t_rpc is None or (http and self.t_http is None)):
            if self.p.poll() is not None:
                raise RuntimeError(f"{self.label}: server exited {self.p.returncode}\n"
                                   + self.log_tail())
            if self.t_rpc is None:
                try:
                    c = LeanClient(self.port, timeout=2)
                    try:
                        if c.call("noop") == "OK":
                            self.t_rpc = time.monotonic() - self.t0
                    finally:
                        c.close()
                except (OSError, RpcTimeout):
                    pass
            if http and self.t_http is None:
                try:
                    with urllib.request.urlopen(
                            f"http://127.0.0.1:{self.http_port}/healthcheck", timeout=2) as r:
                        if r.status == 200:
                            self.t_http = time.monotonic() - self.t0
                except OSError:
                    pass
            time.sleep(poll)
        if self.t_rpc is None:
            raise RuntimeError(f"{self.label}: not ready in {timeout}s\n" + self.log_tail())

    def http(self, path, method="GET", body=None, timeout=10):
        req = urllib.request.Request(
            f"http://127.0.0.1:{self.http_port}{path}", method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"})
        with urllib.request.urlopen(req, timeout=timeout) as r:
            d = r.read()
        try:
            return json.loads(d)
        except ValueError:
            return d.decode("utf8", "replace")

    def client(self, timeout=20.0):
        return LeanClient(self.port, timeout=timeout)

    def cpu_s(self):
        return cpu_ns(self.pid) / 1e9

    def log_tail(self, n=3000):
        with contextlib.suppress(OSError):
            return open(self.log, "rb").read()[-n:].decode("utf8", "replace")
        return ""

    def log_problems(self):
        """Counts of WARNING/ERROR/Traceback lines and a few distinct samples."""
        out, seen = {"warnings": 0, "errors": 0, "tracebacks": 0, "samples": []}, set()
        with contextlib.suppress(OSError):
            for b in open(self.log, "rb"):
                s = b.decode("utf8", "replace").rstrip()
                k = "warnings" if "WARNING" in s else "errors" if "ERROR" in s else \
                    "tracebacks" if s.startswith("Traceback") else None
                if k:
                    out[k] += 1
                    sig = re.sub(r"[0-9a-fx]{4,}|\d+", "#", re.sub(r"\x1b\[[0-9;]*m", "", s))[:120]
                    if sig not in seen and len(seen) < 8:
                        seen.add(sig)
                        out["samples"].append(re.sub(r"\x1b\[[0-9;]*m", "", s)[:300])
        return out

    def stop(self, timeout=30):
        """SIGTERM, wait; SIGKILL if it hangs. Returns (seconds, forced, rc)."""
        if self.p is None:
            return None
        t = time.monotonic()
        forced = False
        if self.p.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)
            try:
                self.p.wait(timeout)
            except subprocess.TimeoutExpired:
                forced = True
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, signal.SIGKILL)
                self.p.wait()
        dt = time.monotonic() - t
        self.logf.close()
        rc = self.p.returncode
        for nm in (f"lmcache_l1_pool_{self.shm}", self.shm):
            with contextlib.suppress(OSError):
                os.unlink("/dev/shm/" + nm)
        if not self.keep_log and not forced:
            with contextlib.suppress(OSError):
                os.unlink(self.log)
        return dt, forced, rc

    def __enter__(self):
        return self.start() if self.p is None else self

    def __exit__(self, *a):
        self.stop()


def free_port(start):
    for p in range(start, start + 200):
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", p))
                return p
            except OSError:
                continue
    raise RuntimeError("no free port")


# ------------------------------------------------------------------ /proc
def descendants(pid):
    kids, out, todo = {}, [], [pid]
    for d in os.listdir("/proc"):
        if d.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                st = open(f"/proc/{d}/stat").read()
                kids.setdefault(int(st[st.rindex(")") + 2:].split()[1]), []).append(int(d))
    while todo:
        for k in kids.get(todo.pop(), []):
            out.append(k)
            todo.append(k)
    return out


def proc_alive(p):
    """Running (a zombie waiting for init does not count)."""
    try:
        st = open(f"/proc/{p}/stat").read()
        return st[st.rindex(")") + 2] not in "ZX"
    except OSError:
        return False


def cpu_seconds(pid, tree=False):
    t = 0
    for q in [pid] + (descendants(pid) if tree else []):
        with contextlib.suppress(OSError):
            f = open(f"/proc/{q}/stat").read()
            f = f[f.rindex(")") + 2:].split()
            t += int(f[11]) + int(f[12])
    return t / CLK


def cpu_ns(pid):
    """Run time of all live threads, ns resolution (schedstat)."""
    t = 0
    try:
        for q in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError):
                t += int(open(f"/proc/{pid}/task/{q}/schedstat").read().split()[0])
    except OSError:
        pass
    return t or cpu_seconds(pid) * 1e9


def memory_mb(pid, pool_pattern="l1_pool|bench_"):
    """RSS/PSS in MB; *_excl_pool leaves out mappings of the shared L1 pool."""
    rss = pss = prss = ppss = anon = 0
    pool = False
    hdr = re.compile(r"^[0-9a-f]+-[0-9a-f]+ ")
    pat = re.compile(pool_pattern)
    for line in open(f"/proc/{pid}/smaps"):
        if hdr.match(line):
            pool = "/dev/shm/" in line and bool(pat.search(line))
        elif line.startswith("Rss:"):
            v = int(line.split()[1]); rss += v; prss += v if pool else 0
        elif line.startswith("Pss:"):
            v = int(line.split()[1]); pss += v; ppss += v if pool else 0
        elif line.startswith("Anonymous:"):
            anon += int(line.split()[1])
    thr = int(re.search(r"Threads:\s+(\d+)", open(f"/proc/{pid}/status").read()).group(1))
    return {"rss_mb": rss / 1024, "pss_mb": pss / 1024, "rss_excl_pool_mb": (rss - prss) / 1024,
            "pss_excl_pool_mb": (pss - ppss) / 1024, "anon_mb": anon / 1024, "threads": thr,
            "processes": 1 + len(descendants(pid))}


class Pool:
    """The server's shared-memory L1 pool, mapped by the client."""

    def __init__(self, shm_name, size):
        self.fd = os.open("/dev/shm/" + shm_name.lstrip("/"), os.O_RDWR)
        self.mm = mmap.mmap(self.fd, size)
        import numpy as np
        self.a = np.frombuffer(self.mm, dtype=np.uint8)

    def close(self):
        del self.a
        with contextlib.suppress(BufferError):
            self.mm.close()
        os.close(self.fd)
