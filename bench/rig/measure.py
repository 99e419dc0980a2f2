"""Numbers, rounds and reports of the benchmarks: what is done with what `benchlib` sees."""
from __future__ import annotations

import argparse, contextlib, datetime, json, mmap, os, platform, re
import statistics, struct, subprocess, sys, time

from benchlib import *  # noqa: F403
from benchlib import CLK, DEFAULT_PEER, HERE, SCRATCH

# ------------------------------------------------------------------ numbers
def pct(v, p):
    if not len(v):
        return float("nan")
    s = sorted(v)
    return s[min(len(s) - 1, int(round(p / 100 * (len(s) - 1))))]


def stats_us(v):
    return {"n": len(v), "p50_us": round(pct(v, 50), 1), "p90_us": round(pct(v, 90), 1),
            "p99_us": round(pct(v, 99), 1), "max_us": round(max(v), 1) if len(v) else None,
            "mean_us": round(sum(v) / len(v), 1) if len(v) else None}


def med(v):
    v = [x for x in v if x is not None]
    return statistics.median(v) if v else None


def machine():
    model = "?"
    for line in open("/proc/cpuinfo"):
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    mem = int(open("/proc/meminfo").readline().split()[1]) // 1024
    return {"date_utc": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "cpu": model, "cores": os.cpu_count(), "mem_mb": mem, "kernel": platform.release(),
            "python": platform.python_version(), "loadavg": os.getloadavg()[0]}


def warm_memory(gib=8):
    """Touch and free memory once, so that a VM's host has backed it before measuring.

    Returns GiB/s of the first and of a second pass (first-touch rate of this machine).
    """
    import numpy as np
    with contextlib.suppress(OSError, ValueError):
        free = int(re.search(r"MemAvailable:\s+(\d+)", open("/proc/meminfo").read()).group(1)) / 2**20
        gib = max(1, min(gib, free - 3))
    out = []
    for _ in range(2):
        m = mmap.mmap(-1, int(gib * 2**30))
        a = np.frombuffer(m, dtype=np.uint8)
        t = time.perf_counter()
        a[::4096] = 1
        out.append(round(gib / (time.perf_counter() - t), 2))
        del a
        m.close()
    return out


def _busy():
    f = [int(x) for x in open("/proc/stat").readline().split()[1:9]]
    return sum(f), f[3] + f[4], f[7]


def quiet(max_wait, limit_pct=20):
    """Wait until other work uses < limit_pct of the machine for 1 s (at most max_wait)."""
    end = time.monotonic() + max_wait
    while True:
        a = _busy(); time.sleep(1); b = _busy()
        pct_ = round(100 * (1 - (b[1] - a[1]) / max(1, b[0] - a[0])), 1)
        if pct_ <= limit_pct or time.monotonic() > end:
            return pct_


# ------------------------------------------------------------------ zload
def zload_bin():
    src, out = os.path.join(HERE, "zload.c"), os.path.join(SCRATCH, "zload")
    if not os.path.exists(out) or os.path.getmtime(out) < os.path.getmtime(src):
        subprocess.check_call(["gcc", "-O2", "-o", out, src])
    return out


def zload(port, plans, depth=1, loop=0, duration=0.0, tag="p"):
    """plans: per connection a list of transactions, each a list of raw messages.

    Returns elapsed, transactions, per-step latencies (us) and values, client CPU.
    """
    import numpy as np
    nsteps = len(plans[0][0])
    pf = os.path.join(SCRATCH, f"plan_{os.getpid()}_{tag}")
    of = pf + ".out"
    with open(pf, "wb") as f:
        f.write(struct.pack("<IIII", 0x5A4C4F44, len(plans), nsteps, loop))
        for txs in plans:
            f.write(struct.pack("<I", len(txs)))
            for tx in txs:
                for m in tx:
                    f.write(struct.pack("<I", len(m)))
                    f.write(m)
    try:
        r = subprocess.run([zload_bin(), "127.0.0.1", str(port), pf, of, str(depth), str(duration)],
                           capture_output=True, text=True, timeout=300)
        if r.returncode:
            return {"error": f"zload rc={r.returncode} {r.stderr.strip()}"}
        d = open(of, "rb").read()
    finally:
        for x in (pf, of):
            with contextlib.suppress(OSError):
                os.unlink(x)
    el, n, ns, to, cpu = struct.unpack_from("<dQIId", d, 0)
    a = np.frombuffer(d, dtype=np.dtype([("l", "<f4"), ("v", "<i4")]), offset=32).reshape(n, ns)
    return {"elapsed": el, "n": n, "timeouts": to, "client_cpu": cpu,
            "lat": a["l"].astype(float), "val": a["v"]}


# ------------------------------------------------------------------ CLI
def parser(doc, rounds=3):
    p = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--server", action="append", metavar="LABEL=CMD", default=[],
                   help="server command template with {port} {http_port} {args} (repeatable); "
                        f"default: peer='{DEFAULT_PEER}'")
    p.add_argument("--rounds", type=int, default=rounds, help="A B A B rounds (default %(default)s)")
    p.add_argument("--out", help="write the JSON object here too")
    p.add_argument("--quiet-wait", type=float, default=20,
                   help="before each round wait up to this many s for an idle machine")
    p.add_argument("--quick", action="store_true", help="smaller sizes, for a smoke run")
    p.add_argument("--json", action="store_true", help="print the JSON object on stdout")
    return p


def servers(a):
    out = {}
    for s in a.server or [f"peer={DEFAULT_PEER}"]:
        k, _, v = s.partition("=")
        out[k] = v
    return out


def run_rounds(a, name, one_round):
    """one_round(label, template, round_no) -> flat dict of numbers (or nested info).

    Rounds are interleaved over the servers (A B A B ...).
    """
    sv = servers(a)
    res = {"bench": name, "machine": machine(), "rounds": a.rounds, "servers": sv,
           "argv": sys.argv, "results": {k: {"rounds": []} for k in sv}}
    res["first_touch_GiBps"] = warm_memory(getattr(a, "warm_gib", 4))
    for r in range(a.rounds):
        order = list(sv) if r % 2 == 0 else list(reversed(list(sv)))
        for k in order:
            before = quiet(a.quiet_wait)
            t, b0, me0 = time.monotonic(), _busy(), os.times()
            try:
                d = one_round(k, sv[k], r)
            except Exception as e:  # a crashed server is a result, too
                import traceback
                traceback.print_exc()
                d = {"error": f"{type(e).__name__}: {e}"[:2000]}
            d["wall_s"] = round(time.monotonic() - t, 2)
            # CPU of everybody else on the machine (own children are counted when reaped)
            b1, me1 = _busy(), os.times()
            mine = sum(me1[:4]) - sum(me0[:4])
            busy = ((b1[0] - b0[0]) - (b1[1] - b0[1])) / CLK
            d["noise"] = {"busy_before_pct": before, "others_cores": round(max(0, busy - mine) / d["wall_s"], 2),
                          "steal_s": (b1[2] - b0[2]) / CLK}
            res["results"][k]["rounds"].append(d)
            print(f"[{name}] round {r + 1}/{a.rounds} {k}: {d['wall_s']} s"
                  + (f"  ERROR {d['error'][:200]}" if "error" in d else ""), file=sys.stderr)
    for k in sv:
        res["results"][k]["median"] = medians(res["results"][k]["rounds"])
    return res


def medians(rounds):
    flat = [flatten(r) for r in rounds]
    keys = []
    for f in flat:
        keys += [k for k in f if k not in keys]
    out = {}
    for k in keys:
        v = [f[k] for f in flat if k in f and isinstance(f[k], (int, float)) and not isinstance(f[k], bool)]
        if v:
            out[k] = round(statistics.median(v), 4)
    return out


def flatten(d, pre=""):
    out = {}
    for k, v in d.items():
        if isinstance(v, dict):
            out.update(flatten(v, pre + k + "."))
        else:
            out[pre + k] = v
    return out


def report(a, res, rows=None):
    """Print a table of medians with the ratio to the first server; save the JSON."""
    sv = list(res["servers"])
    m = {k: res["results"][k]["median"] for k in sv}
    keys = []
    for k in sv:
        keys += [x for x in m[k] if x not in keys]
    if rows:
        keys = [k for k in keys if any(re.search(r, k) for r in rows)]
    w = max([len(k) for k in keys] + [10])
    print(f"\n== {res['bench']}  {res['machine']['date_utc']}  {res['machine']['cpu']} x{res['machine']['cores']}"
          f"  rounds={res['rounds']} (medians)")
    print(f"{'metric':<{w}} " + " ".join(f"{k:>14}" for k in sv)
          + ("" if len(sv) < 2 else "".join(f" {k + '/' + sv[0]:>14}" for k in sv[1:])))
    for k in keys:
        vals = [m[s].get(k) for s in sv]
        line = f"{k:<{w}} " + " ".join("%14s" % ("-" if v is None else f"{v:,.4g}" if abs(v) < 1e4 else f"{v:,.0f}") for v in vals)
        for v in vals[1:]:
            line += " %14s" % ("-" if v is None or not vals[0] else f"{v / vals[0]:.3f}")
        print(line)
    if a.out:
        os.makedirs(os.path.dirname(os.path.abspath(a.out)), exist_ok=True)
        with open(a.out, "w") as f:
            json.dump(res, f, indent=1, default=str)
        print("saved", a.out)
    if a.json:
        print(json.dumps(res, default=str))
