#!/usr/bin/env python3
"""Runtime plugins of an MP cache server (--runtime-plugin-locations DIR).

start: K=1, 20, 100 trivial bash plugins; all_ready_s = process start until every
plugin's own line is in the server's log (minus nothing; see base_http_s for the
server alone); launch_span_s = first to last plugin line. stop: SIGTERM to the server
until every plugin process is gone (30 s limit; left = still alive then; they are
killed by pid afterwards), in three kinds: 'exec' (one process), 'child' (a bash loop
with a sleep child: children must die, too), 'stubborn' (ignores SIGTERM).
log: one plugin prints 200k short lines as fast as it can.
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
        out = {"lines": n, "relayed": cnt, "lost": n - cnt, "out_of_order": order,
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


def rpc_under_spam(label, template):
    """noop latency while a plugin keeps printing."""
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
    d = {}
    s = Server(label, template, ARGS).start()
    d["base_http_s"] = round(s.t_http, 3); s.stop()
    for k in ((1, 20) if A.quick else (1, 20, 100)):
        d[f"exec_{k}"] = case(label, template, "exec", k)
    d["child_5"] = case(label, template, "child", 5)
    d["stubborn_5"] = case(label, template, "stubborn", 5)
    d["server_killed"] = sigkill_case(label, template)
    d["log_200k"] = log_case(label, template, 20000 if A.quick else 200000)
    d["rpc_under_spam"] = rpc_under_spam(label, template)
    return d


A = parser(__doc__, rounds=2).parse_args()
report(A, run_rounds(A, "plugins", one))
