#!/usr/bin/env python3
"""Eviction in an MP cache server.

stream: a 1 GB L1 (engine_driven SHM) under 8 GB of unique 1-MiB chunks, 4 chunks per
request, bytes really copied. lost_chunks = chunks for which prepare_store gave no slot
(the wire has no error for that: the engine is told nothing to do and believes all is
stored); failed_commits; latencies of prepare_store before and while evicting.
hard: the same, 32 chunks per request (a burst is larger than the headroom above the
watermark).
zipf: 20k requests for single-chunk prompts over 4 x capacity keys, Zipf(1.0); a miss is
stored. hit_ratio per policy, next to an ideal LRU / optimal (Belady) of the same trace
and capacity, computed here.
"""
import sys, time, heapq
from collections import OrderedDict
sys.path.insert(0, __file__.rsplit("/", 1)[0])
from measure import *  # noqa
import numpy as np

CH = 2**20


def base(policy, gb):
    return ["--l1-size-gb", str(gb), "--eviction-policy", policy, "--supported-transfer-mode", "auto",
            "--shm-name", "{shm}"] + A.server_args.split()


def setup(s):
    c = s.client(60)
    r = c.call("register_kv_cache_engine_driven_context", register_payload(1, 4, 256))
    return c, r, Pool(r["shm_name"], r["pool_size"])


def stream(label, template, total, per_req, seed):
    out = {}
    with Server(label, template, base("LRU", 1)) as s:
        c, r, pool = setup(s)
        src = np.ones(CH, dtype=np.uint8)
        n = total // (CH * per_req)
        pre, com, lost, failed, partial, empty = [], [], 0, 0, 0, 0
        cap = int(r["pool_size"] * 0.8) // (CH * per_req)
        prompts = [tokens(seed + i, 256 * per_req) for i in range(n)]
        frames = []
        for i in range(n):
            k = enc(make_key(prompts[i], f"ev{seed}_{i}", worker_id=0))
            frames.append((c.frame("prepare_store", k, enc(1)), c.frame("commit_store", k, enc(1), enc(b"")),
                           c.frame("end_session", enc(f"ev{seed}_{i}"))))
        cpu, t0 = s.cpu_s(), time.perf_counter()
        tcopy = 0.0
        for f1, f2, f3 in frames:
            a = time.perf_counter(); rep = dec(c.call_raw(f1)); b = time.perf_counter()
            sl = (rep.get("context") or {}).get("slots") or []
            miss = per_req - len(sl)
            lost += miss; partial += 0 < miss < per_req; empty += miss == per_req
            for x in sl:
                np.copyto(pool.a[x["offset"]:x["offset"] + x["length"]], src[:x["length"]])
            d = time.perf_counter(); tcopy += d - b
            if sl:
                failed += dec(c.call_raw(f2)) is not True
            e = time.perf_counter()
            c.call_raw(f3)
            pre.append((b - a) * 1e6); com.append((e - d) * 1e6)
        el = time.perf_counter() - t0
        out = {"requests": n, "chunks": n * per_req, "stores_per_s": round((n * per_req - lost) / el, 1),
               "GBps": round((n * per_req - lost) * CH / el / 1e9, 3), "memcpy_share": round(tcopy / el, 3),
               "srv_cpu_us_per_chunk": round((s.cpu_s() - cpu) / (n * per_req) * 1e6, 1),
               "lost_chunks": lost, "lost_pct": round(100 * lost / (n * per_req), 2), "empty_replies": empty, "partial_replies": partial, "failed_commits": failed}
        for nm, v in (("prepare_before", pre[:cap]), ("prepare_evicting", pre[cap:]), ("commit_evicting", com[cap:])):
            st = stats_us(v); out[nm] = {k: st[k] for k in ("p50_us", "p99_us", "max_us")}
        # the last quarter of a pool's worth must be readable
        back, look = max(1, cap // 4), 0
        for i in range(n - back, n):
            rid = f"chk{i}"
            h = lookup_hits(c, prompts[i], rid); look += h == per_req
            c.call("free_lookup_locks", make_key(prompts[i], rid), 1); c.call("end_session", rid)
        out["recent_quarter_readable_pct"] = round(100 * look / back, 1)
        c.close(); pool.close()
        out["log"] = s.log_problems()
    return out


def zipf_trace(keys, n, seed):
    w = 1.0 / np.arange(1, keys + 1)
    return np.random.default_rng(seed).choice(keys, size=n, p=w / w.sum())


def ideal(trace, cap):
    lru, hit = OrderedDict(), 0
    for k in trace:
        if k in lru:
            hit += 1; lru.move_to_end(k)
        else:
            lru[k] = 1
            if len(lru) > cap:
                lru.popitem(last=False)
    nxt, last = [0] * len(trace), {}
    for i in range(len(trace) - 1, -1, -1):
        nxt[i] = last.get(trace[i], 1 << 60); last[trace[i]] = i
    cur, h, opt = {}, [], 0
    for i, k in enumerate(trace):
        if k in cur:
            opt += 1
        elif len(cur) >= cap:
            while True:
                x, kk = heapq.heappop(h)
                if cur.get(kk) == -x:
                    del cur[kk]; break
        cur[k] = nxt[i]; heapq.heappush(h, (-nxt[i], k))
    return hit / len(trace), opt / len(trace)


def zipf(label, template, policy, nreq, gb=0.25):
    chunk = 256 * 1024  # 4 layers x 2 x 64 hidden x 256 slots x bf16
    with Server(label, template, base(policy, gb)) as s:
        c = s.client(60)
        r = c.call("register_kv_cache_engine_driven_context", register_payload(1, 4, 64))
        cap = r["pool_size"] // chunk
        trace = zipf_trace(4 * cap, nreq, 42)
        if policy == "IsolatedLRU":
            try:
                s.http("/quota/_default", "PUT", {"limit_gb": gb})
            except Exception:
                pass
        toks = {}
        hits = lost = bad = 0
        t0, lat = time.perf_counter(), []
        for i, k in enumerate(trace.tolist()):
            t = toks.get(k)
            if t is None:
                t = toks[k] = (tokens(5_000_000 + k, 256))
            rid = f"z{i}"
            wk = make_key(t, rid, worker_id=0)
            a = time.perf_counter()
            h = lookup_hits(c, t, rid)
            if h:
                hits += 1
                rep = c.call("prepare_retrieve", wk, 1)
                bad += not rep["success"]
                c.call("commit_retrieve", wk, 1)
            else:
                sl = (c.call("prepare_store", wk, 1).get("context") or {}).get("slots") or []
                if sl:
                    c.call("commit_store", wk, 1, b"")
                else:
                    lost += 1
            c.call("end_session", rid)
            lat.append((time.perf_counter() - a) * 1e6)
        el = time.perf_counter() - t0
        lru, opt = ideal(trace.tolist(), cap)
        st = stats_us(lat)
        out = {"capacity_chunks": cap, "keys": 4 * cap, "requests": nreq, "hit_ratio": round(hits / nreq, 4),
               "ideal_lru": round(lru, 4), "optimal": round(opt, 4), "lost_stores": lost, "failed_reads": bad,
               "requests_per_s": round(nreq / el, 1), "p50_us": st["p50_us"], "p99_us": st["p99_us"], "max_us": st["max_us"],
               "log": s.log_problems()}
        c.close()
    return out


def one(label, template, rnd):
    d = {}
    tot = (1 if A.quick else 8) * 2**30 * (2 if A.quick else 1)
    d["stream"] = stream(label, template, tot, 4, 100_000_000 * (rnd + 1))
    d["hard"] = stream(label, template, tot // (2 if A.quick else 2), 32, 100_000_000 * (rnd + 1) + 50_000_000)
    for p_ in A.policies.split(","):
        try:
            d["zipf_" + p_] = zipf(label, template, p_, 2000 if A.quick else 20000)
        except Exception as e:
            d["zipf_" + p_] = {"error": f"{type(e).__name__}: {e}"[:1500]}
    return d


p = parser(__doc__, rounds=1)
p.add_argument("--server-args", default="")
p.add_argument("--policies", default="LRU,ARC,IsolatedLRU,noop")
A = p.parse_args(); A.warm_gib = 9
report(A, run_rounds(A, "eviction", one))
