#!/usr/bin/env python3
"""Runtime plugins of an MP cache server (--runtime-plugin-locations DIR).

start: K=1, 20, 100 trivial bash plugins; all_ready_s = process start until every
plugin's own line is in the server's log (minus nothing; see base_http_s for the
server alone); launch_span_s = first to last plugin line. stop: SIGTERM to the server
until every plugin process is gone (30 s limit; left = still alive then; they are
killed by pid afterwards), in three kinds: 'exec' (one process), 'child' (a bash loop
with a sleep child: children must die, too), 'stubborn' (ignores SIGTERM).
floor: the same scripts by bare posix_spawn from a small process, until the last line is read.
log: one plugin prints 200k short lines as fast as it can; lost = printed, neither relayed nor counted as suppressed.
idle: 200 plugins that wait: memory of the server for each, CPU of the server and its helpers over 5 s.
flood: noop and an 8k-token lookup while one plugin prints without end.
crowd: GET /healthcheck and noop while a folder of 20,000 files with one plugin has one file changed each second:
a data file, then one that calls for a look at all of them.
"""
import sys, time
sys.path.insert(0, __file__.rsplit("/", 1)[0])
from measure import *  # noqa

BODY = {
    "exec": 'echo "PLUGREADY {i} end"\nexec sleep 100000\n',
    "child": 'echo "PLUGREADY {i} end"\nwhile true; do sleep 100000; done\n',
    "stubborn": "trap '' TERM\necho \"PLUGREADY {i} end\"\nexec sleep 100000\n",
}
ARGS = ["--l1-size-gb", "0.25", "--eviction-policy", "LRU"]


def mk(kind, k):
    d = tempfile.mkdtemp(prefix="plug_", dir=SCRATCH)
    for i in range(k):
        with open(f"{d}/p{i:03d}.sh", "w") as f:
            f.write("#!/bin/bash\n" + f'echo $$ >> "{d}/pids"\n' + BODY[kind].format(i=i))
    return d


def watch_log(path, want, end, t0):
    """Count distinct PLUGREADY ids in the log; times of first and last."""
    seen, pos, first, last, rest = set(), 0, None, None, b""
    while time.monotonic() < end and len(seen) < want:
        with open(path, "rb") as f:
            f.seek(pos); d = f.read()
        pos += len(d)
        d = rest + d
        cut = d.rfind(b"\n") + 1
        rest = d[cut:]
        for m in re.finditer(rb"PLUGREADY (\d+) end", d[:cut]):
            seen.add(int(m.group(1)))
            last = time.monotonic() - t0
            first = first or last
        time.sleep(0.005)
    return len(seen), first, last


def alive(p):
    try:
        st = open(f"/proc/{p}/stat").read()
        return st[st.rindex(")") + 2] not in "ZX"
    except OSError:
        return False


def case(label, template, kind, k):
    d = mk(kind, k)
    s = Server(label, template, ARGS + ["--runtime-plugin-locations", d])
    out = {}
    try:
        s.start(wait=False)
        n, first, last = watch_log(s.log, k, time.monotonic() + 60, s.t0)
        out.update(seen=n, all_ready_s=round(last, 3) if last and n == k else None,
                   launch_span_s=round(last - first, 3) if last else None)
        s.wait_ready()
        out["http_s"] = round(s.t_http, 3)
        time.sleep(0.5)
        if kind == "exec":
            out["threads"] = memory_mb(s.pid)["threads"]
            out["rss_mb"] = round(memory_mb(s.pid)["rss_mb"], 1)
        pids = set(descendants(s.pid)) | {int(x) for x in open(d + "/pids").read().split()}
        t = time.monotonic()
        os.kill(s.pid, signal.SIGTERM)
        exit_t = gone_t = None
        lim = 12 if kind == "stubborn" else 20
        while time.monotonic() - t < lim and (exit_t is None or gone_t is None):
            if exit_t is None and s.p.poll() is not None:
                exit_t = time.monotonic() - t
            if gone_t is None and not any(alive(p) for p in pids):
                gone_t = time.monotonic() - t
            time.sleep(0.005)
        out["server_exit_s"] = None if exit_t is None else round(exit_t, 3)
        out["all_gone_s"] = None if gone_t is None else round(gone_t, 3)
        left = [p for p in pids if alive(p)]
        out["left_processes"] = len(left)
        for p in left:  # only pids started by this server
            with contextlib.suppress(OSError):
                os.kill(p, signal.SIGKILL)
    finally:
        s.stop()
        shutil.rmtree(d, ignore_errors=True)
    return out


def floor(k):
    """Seconds from the first spawn to the last line of k scripts that nobody supervises."""
    d = mk("exec", k)
    r, w = os.pipe()
    null = os.open("/dev/null", os.O_RDONLY)
    act = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, w, 1), (os.POSIX_SPAWN_DUP2, w, 2)]
    files = sorted(f"{d}/{f}" for f in os.listdir(d) if f.endswith(".sh"))
    pids, seen, buf, t = [], 0, b"", time.monotonic()
    try:
        for f in files:
            pids.append(os.posix_spawn("/bin/bash", ["/bin/bash", f], os.environ, file_actions=act))
        while seen < k:
            buf += os.read(r, 1 << 16)
            seen = buf.count(b" end\n")
        return round(time.monotonic() - t, 4)
    finally:
        for p in pids:
            os.kill(p, signal.SIGKILL)
            os.waitpid(p, 0)
        for fd in (r, w, null):
            os.close(fd)
        shutil.rmtree(d, ignore_errors=True)


def rss_kb(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{pid}/status").read()).group(1))


def idle_case(label, template, k):
    s = Server(label, template, ARGS).start()
    time.sleep(1)
    base = rss_kb(s.pid)
    s.stop()
    d = mk("exec", k)
    s = Server(label, template, ARGS + ["--runtime-plugin-locations", d])
    try:
        s.start(wait=False)
        watch_log(s.log, k, time.monotonic() + 60, s.t0)
        s.wait_ready()
        time.sleep(2)
        plugins = {int(x) for x in open(d + "/pids").read().split()}
        helpers = [p for p in descendants(s.pid) if p not in plugins]
        rss = rss_kb(s.pid)
        ticks = lambda: sum(cpu_seconds(p) for p in [s.pid, *helpers])  # noqa: E731
        before = ticks()
        time.sleep(5)
        return {"server_kb_per_plugin": round((rss - base) / k, 1), "cpu_pct": round((ticks() - before) / 5 * 100, 2),
                "threads": memory_mb(s.pid)["threads"]}
    finally:
        pids = descendants(s.pid)
        s.stop()
        for p in pids:
            if alive(p):
                with contextlib.suppress(OSError):
                    os.kill(p, signal.SIGKILL)
        shutil.rmtree(d, ignore_errors=True)


def sigkill_case(label, template, k=3):
    """Server SIGKILLed: do plugins stay behind?"""
    d = mk("exec", k)
    s = Server(label, template, ARGS + ["--runtime-plugin-locations", d])
    try:
        s.start(wait=False)
        watch_log(s.log, k, time.monotonic() + 60, s.t0)
        s.wait_ready()
        pids = set(descendants(s.pid))
        os.kill(s.pid, signal.SIGKILL); s.p.wait()
        time.sleep(2)
        left = [p for p in pids if alive(p)]
        for p in left:
            with contextlib.suppress(OSError):
                os.kill(p, signal.SIGKILL)
        return {"left_after_server_sigkill": len(left), "of": k}
    finally:
        s.stop(); shutil.rmtree(d, ignore_errors=True)


def log_case(label, template, n):
    d = tempfile.mkdtemp(prefix="plug_", dir=SCRATCH)
    with open(d + "/spam.sh", "w") as f:
        f.write(f"#!/bin/bash\nseq -f 'SPAM %.0f end' 1 {n}\necho SPAMDONE\nexec sleep 100000\n")
    s = Server(label, template, ARGS + ["--runtime-plugin-locations", d])
    out = {}
    try:
        s.start(wait=False)
        t_first = t_last = None
        pos, cnt, done, rest, order, prev = 0, 0, False, b"", 0, 0
        end = time.monotonic() + 120
        cpu0 = None
        while time.monotonic() < end and not done:
            with open(s.log, "rb") as f:
                f.seek(pos); b = f.read()
            pos += len(b); b = rest + b
            cut = b.rfind(b"\n") + 1; rest, b = b[cut:], b[:cut]
            for m in re.finditer(rb"SPAM (\d+) end|SPAMDONE", b):
                if m.group(1):
                    v = int(m.group(1)); cnt += 1; order += v != prev + 1; prev = v
                else:
                    done = True
            if cnt and t_first is None:
                t_first = time.monotonic(); cpu0 = s.cpu_s(); n0 = cnt
            if cnt:
                t_last = time.monotonic()
            time.sleep(0.02)
        dt = t_last - t_first
        said = b"".join(re.findall(rb"suppressed (\d+) lines", open(s.log, "rb").read())[-1:])
        out = {"lines": n, "relayed": cnt, "lost": n - cnt - int(said or 0), "out_of_order": order,
               "lines_per_s": round((cnt - n0) / dt) if dt > 0 else None, "seconds": round(dt, 2),
               "cpu_us_per_line": round((s.cpu_s() - cpu0) / max(1, cnt - n0) * 1e6, 2),
               "log_bytes_per_line": round(pos / max(1, cnt), 1)}
        s.wait_ready()
        c = s.client(); v = []
        for _ in range(200):
            t = time.perf_counter(); c.call("noop"); v.append((time.perf_counter() - t) * 1e6)
        c.close()
    finally:
        pids = descendants(s.pid)
        s.stop()
        for p in pids:
            if alive(p):
                with contextlib.suppress(OSError):
                    os.kill(p, signal.SIGKILL)
        shutil.rmtree(d, ignore_errors=True)
    return out


def lookup_us(c, toks, rid):
    k = enc(make_key(toks, rid))
    f = c.frame("lookup", k, enc(1))
    t = time.perf_counter()
    c.call_raw(f)
    v = (time.perf_counter() - t) * 1e6
    c.call("wait_prefetch_status", rid, 10.0)
    c.call("end_session", rid)
    return v


def rpc_under_spam(label, template):
    """noop and lookup latency while a plugin keeps printing."""
    d = tempfile.mkdtemp(prefix="plug_", dir=SCRATCH)
    with open(d + "/spam.sh", "w") as f:
        f.write("#!/bin/bash\necho PLUGREADY 0 end\nsleep 3\nexec timeout 20 yes 'SPAM line'\n")
    s = Server(label, template, ARGS + ["--runtime-plugin-locations", d])
    try:
        s.start(wait=False); s.wait_ready()
        watch_log(s.log, 1, time.monotonic() + 30, s.t0)
        c = s.client(); out = {}
        for name in ("quiet", "spam"):
            if name == "spam":
                time.sleep(4)
            v = []
            for _ in range(500):
                t = time.perf_counter(); c.call("noop"); v.append((time.perf_counter() - t) * 1e6)
            st = stats_us(v)
            out[name] = {"noop_p50_us": st["p50_us"], "noop_p99_us": st["p99_us"]}
            toks = tokens(7, 8192)
            st = stats_us([lookup_us(c, toks, f"{name}{i}") for i in range(1000)])
            out[name] |= {"lookup_p50_us": st["p50_us"], "lookup_p99_us": st["p99_us"]}
        c.close()
        return out
    finally:
        pids = descendants(s.pid); s.stop()
        for p in pids:
            if alive(p):
                with contextlib.suppress(OSError):
                    os.kill(p, signal.SIGKILL)
        shutil.rmtree(d, ignore_errors=True)


def http_us(port, path):
    t = time.perf_counter()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
        answer.read()
    return (time.perf_counter() - t) * 1e6


def crowd_case(label, template, files, seconds):
    """HTTP and noop latency beside changes in a crowded folder."""
    d = mk("exec", 1)
    for i in range(files):
        open(f"{d}/data-{i:05d}.json", "w").close()
    s = Server(label, template, ARGS + ["--runtime-plugin-locations", d])
    try:
        s.start(wait=False); s.wait_ready()
        watch_log(s.log, 1, time.monotonic() + 60, s.t0)
        time.sleep(2)
        c = s.client(); out = {}
        changes = {"quiet": None, "data_changes": "data-00000.json", "looks": ".pluginignore"}
        for name, changed in changes.items():
            http, noop, cpu, begin, next_change = [], [], s.cpu_s(), time.monotonic(), 0
            while (now := time.monotonic() - begin) < seconds:
                if changed and now >= next_change:
                    next_change += 1
                    with open(f"{d}/{changed}", "w") as f:
                        f.write(str(now))
                http.append(http_us(s.http_port, "/healthcheck"))
                t = time.perf_counter(); c.call("noop"); noop.append((time.perf_counter() - t) * 1e6)
                time.sleep(0.005)
            out[name] = {f"http_{k}": v for k, v in stats_us(http).items()}
            out[name] |= {"noop_p99_us": stats_us(noop)["p99_us"], "cpu_pct": round((s.cpu_s() - cpu) / seconds * 100, 1)}
        c.close()
        return out
    finally:
        pids = descendants(s.pid); s.stop()
        for p in pids:
            if alive(p):
                with contextlib.suppress(OSError):
                    os.kill(p, signal.SIGKILL)
        shutil.rmtree(d, ignore_errors=True)


def one(label, template, rnd):
    if A.crowd:
        return {"crowd": crowd_case(label, template, 19_900, 20)}
    d = {}
    s = Server(label, template, ARGS).start()
    d["base_http_s"] = round(s.t_http, 3); s.stop()
    for k in ((1, 20) if A.quick else (1, 20, 100)):
        d[f"exec_{k}"] = case(label, template, "exec", k)
    d["child_5"] = case(label, template, "child", 5)
    d["stubborn_5"] = case(label, template, "stubborn", 5)
    d["server_killed"] = sigkill_case(label, template)
    d["log_200k"] = log_case(label, template, 20000 if A.quick else 200000)
    d["floor"] = {f"spawn_{k}_s": floor(k) for k in (1, 100)}
    d["idle_200"] = idle_case(label, template, 20 if A.quick else 200)
    d["rpc_under_spam"] = rpc_under_spam(label, template)
    d["crowd"] = crowd_case(label, template, 2_000 if A.quick else 19_900, 5 if A.quick else 20)
    return d


P = parser(__doc__, rounds=2)
P.add_argument("--crowd", action="store_true", help="the crowded folder alone")
A = P.parse_args()
report(A, run_rounds(A, "plugins", one))
