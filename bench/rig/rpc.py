#!/usr/bin/env python3
"""RPC latency and throughput of an MP cache server.

(a) noop / get_chunk_size / ping round trips: closed loop with 1, 4, 16 clients,
    and pipelined (64 in flight per client) for the maximum rate;
(b) lookup, then wait_prefetch_status, by prompt length, for miss and full hit;
(c) lookups/s (lookup + wait + release + end_session) for 8k-token prompts with
    1, 4, 16 clients.

srv_cpu_us = CPU the server process used per request (utime+stime), which does
not depend on how fast the client is. *_peerclient = the same call through the
peer's own Python client class.
"""
import sys, time
sys.path.insert(0, __file__.rsplit("/", 1)[0])
from measure import *  # noqa


def reg(c):
    # 1 layer x 2 x 8 hidden x 256 slots x bf16 = 8 KiB a chunk: the KV bytes do not matter here
    r = c.call("register_kv_cache_engine_driven_context", register_payload(1, 1, 8))
    assert r["pool_size"] > 0 and r["shm_name"], f"no SHM pool: {r}"
    return r


def simple(srv, dur):
    out = {}
    c = srv.client()
    for name, pay in (("noop", []), ("get_chunk_size", []), ("ping", [enc(None)])):
        d = {}
        for n in (1, 4, 16):
            msg = c.frame(name, *pay)
            cpu = srv.cpu_s()
            r = zload(srv.port, [[[msg]]] * n, loop=1, duration=dur)
            if "error" in r:
                d[f"c{n}"] = r
                continue
            cpu = srv.cpu_s() - cpu
            s = stats_us(r["lat"][:, 0])
            d[f"c{n}"] = {"p50_us": s["p50_us"], "p99_us": s["p99_us"], "rps": round(r["n"] / r["elapsed"]),
                          "srv_cpu_us": round(cpu / max(1, r["n"]) * 1e6, 1), "timeouts": r["timeouts"]}
        for n in (1, 16):
            msg = c.frame(name, *pay)
            cpu = srv.cpu_s()
            r = zload(srv.port, [[[msg]]] * n, depth=64, loop=1, duration=dur)
            if "error" in r:
                d[f"pipelined_c{n}"] = r
                continue
            cpu = srv.cpu_s() - cpu
            d[f"pipelined_c{n}"] = {"rps": round(r["n"] / r["elapsed"]),
                                    "srv_cpu_us": round(cpu / max(1, r["n"]) * 1e6, 1), "timeouts": r["timeouts"]}
        out[name] = d
    c.close()
    return out


def peer_client(srv, n=2000):
    import zmq
    from lmcache.v1.multiprocess.transport.zmq_impl import create_request_client
    ctx = zmq.Context()
    cl = create_request_client(f"tcp://127.0.0.1:{srv.port}", context=ctx)
    out = {}
    for name, f in (("noop", cl.noop), ("ping", lambda: cl.ping(None))):
        v = []
        for _ in range(n):
            t = time.perf_counter(); f().result(timeout=10); v.append((time.perf_counter() - t) * 1e6)
        s = stats_us(v)
        out[name + "_peerclient"] = {"p50_us": s["p50_us"], "p99_us": s["p99_us"]}
    cl.close(); ctx.term()
    return out


def steps(c, toks, rid, hit):
    k = enc(make_key(toks, rid))
    tx = [c.frame("lookup", k, enc(1)), c.frame("wait_prefetch_status", enc(rid), enc(10.0))]
    tx.append(c.frame("free_lookup_locks", k, enc(1)) if hit else c.frame("noop"))
    tx.append(c.frame("end_session", enc(rid)))
    return tx


def lookups(srv, sizes, reps, seed0):
    out, c = {}, srv.client(60)
    for n in sizes:
        nm = f"{n // 1024}k"
        rep = max(20, min(reps, reps * 8192 // n))
        # miss
        plan = [steps(c, tokens(seed0 + i, n), f"m{seed0}_{n}_{i}", False) for i in range(rep)]
        cpu = srv.cpu_s(); r = zload(srv.port, [plan]); cpu = srv.cpu_s() - cpu
        out[f"miss_{nm}"] = lk(r, cpu, rep, 0)
        # hit
        t = tokens(seed0 + 10_000_000 + n, n)
        got = len(store_prompt(c, t, f"s{seed0}_{n}"))
        c.call("end_session", f"s{seed0}_{n}")
        plan = [steps(c, t, f"h{seed0}_{n}_{i}", True) for i in range(rep)]
        cpu = srv.cpu_s(); r = zload(srv.port, [plan]); cpu = srv.cpu_s() - cpu
        out[f"hit_{nm}"] = lk(r, cpu, rep, n // 256)
        if got != n // 256:
            out[f"hit_{nm}"]["store_slots"] = got
        # polling instead of waiting, as a client without wait_prefetch_status does
        v = []
        for i in range(min(rep, 50)):
            rid = f"q{seed0}_{n}_{i}"
            k = enc(make_key(t, rid)); f1 = c.frame("lookup", k, enc(1)); t0 = time.perf_counter()
            c.call_raw(f1); polls = 0
            while True:
                polls += 1
                if c.call("query_prefetch_status", rid) is not None:
                    break
            v.append((time.perf_counter() - t0) * 1e6)
            c.call_raw(c.frame("free_lookup_locks", k, enc(1))); c.call("end_session", rid)
        out[f"hit_{nm}"]["query_poll_total_p50_us"] = round(pct(v, 50), 1)
    c.close()
    return out


def lk(r, cpu, rep, want):
    if "error" in r:
        return r
    a = r["lat"]
    tot = a[:, 0] + a[:, 1]
    bad = int((r["val"][:, 1] != want).sum())
    return {"lookup_p50_us": round(pct(a[:, 0], 50), 1), "lookup_p99_us": round(pct(a[:, 0], 99), 1),
            "wait_p50_us": round(pct(a[:, 1], 50), 1), "wait_p99_us": round(pct(a[:, 1], 99), 1),
            "total_p50_us": round(pct(tot, 50), 1), "total_p99_us": round(pct(tot, 99), 1),
            "free_p50_us": round(pct(a[:, 2], 50), 1), "end_session_p50_us": round(pct(a[:, 3], 50), 1),
            "srv_cpu_us": round(cpu / rep * 1e6), "wrong_hit_count": bad, "timeouts": r["timeouts"]}


def throughput(srv, reps, seed0):
    out, c, n = {}, srv.client(60), 8192
    t = [tokens(seed0 + 77_000_000 + j, n) for j in range(16)]
    for j in range(16):
        store_prompt(c, t[j], f"ts{seed0}_{j}"); c.call("end_session", f"ts{seed0}_{j}")
    for cl in (1, 4, 16):
        per = max(8, reps // cl)
        for kind in ("miss", "hit"):
            plans = [[steps(c, t[j] if kind == "hit" else tokens(seed0 + 1_000_000 * (1 + j) + cl * 10_000 + i, n),
                            f"t{kind}{seed0}_{cl}_{j}_{i}", kind == "hit") for i in range(per)] for j in range(cl)]
            cpu = srv.cpu_s(); r = zload(srv.port, plans); cpu = srv.cpu_s() - cpu
            if "error" in r:
                out[f"{kind}_c{cl}"] = r
                continue
            tot = r["lat"].sum(axis=1)
            out[f"{kind}_c{cl}"] = {"lookups_per_s": round(r["n"] / r["elapsed"], 1), "p50_us": round(pct(tot, 50)),
                                    "p99_us": round(pct(tot, 99)), "srv_cpu_us": round(cpu / max(1, r["n"]) * 1e6),
                                    "wrong_hit_count": int((r["val"][:, 1] != (32 if kind == "hit" else 0)).sum()),
                                    "timeouts": r["timeouts"]}
    c.close()
    return out


def one(label, template, rnd):
    args = ["--l1-size-gb", "2", "--eviction-policy", "LRU", "--supported-transfer-mode", "auto",
            "--shm-name", "{shm}", "--chunk-size", "256"]
    args += A.server_args.split()
    with Server(label, template, args) as s:
        c = s.client(); reg(c); c.close()
        d = {"a_simple": simple(s, 0.5 if A.quick else 2.0)}
        d["a_simple"].update(peer_client(s, 300 if A.quick else 2000))
        d["b_lookup"] = lookups(s, [1024, 8192, 32768, 131072], 40 if A.quick else 300, 1000 + rnd * 100_000)
        d["c_throughput_8k"] = throughput(s, 80 if A.quick else 480, 2_000_000 + rnd * 100_000)
        d["log"] = s.log_problems()
    return d


p = parser(__doc__)
p.add_argument("--server-args", default="", help="extra server flags, e.g. '--max-workers 4'")
A = p.parse_args()
report(A, run_rounds(A, "rpc", one), [r"p50|p99|rps|per_s|cpu|wrong|timeout"])
