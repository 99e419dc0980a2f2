#!/usr/bin/env python3
"""KV transfer through an MP cache server, next to a bare memcpy of the same bytes.

engine_driven (SHM): the client (raw protocol) does prepare_store -> memcpy into the
slots -> commit_store, and lookup -> wait -> prepare_retrieve -> memcpy out ->
commit_retrieve -> end_session. GB/s are end to end; *_us are control-plane
latencies per call; control_ms_per_gib = all non-memcpy time per GiB.
lmcache_driven (CPU SHM): the peer's own LMCacheDrivenTransferContext; the server copies
between the engine's paged KV tensors (Llama-3-8B like: 32 layers, K and V, 8 x 128, bf16,
block 16) and its L1 pool. engine_driven_peerclient: the same tensors through the peer's
EngineDrivenTransferContext (its Python gather/scatter included).

memcpy_GBps = one thread copying the same number of bytes between the same kinds of
buffers (warm), measured in the same round. efficiency = GBps / memcpy_GBps. 'cold' = the
first use of the pool after server start (page faults of the pool included).
"""
import sys, time
sys.path.insert(0, __file__.rsplit("/", 1)[0])
from measure import *  # noqa
import numpy as np


def engine(srv, c, label, layers, hidden, inst, total, per_req, seed, warm_rounds=3):
    """One geometry. per_req = chunks per request."""
    chunk = layers * 2 * 256 * hidden * 2
    model = f"m{label}"
    r = c.call("register_kv_cache_engine_driven_context", register_payload(inst, layers, hidden, model=model))
    pool = Pool(r["shm_name"], r["pool_size"])
    nreq = max(1, total // (chunk * per_req))
    src = np.random.default_rng(1).integers(0, 255, chunk * per_req, dtype=np.uint8)
    dst = np.empty_like(src); dst[:] = 1
    out = {"chunk_mib": chunk / 2**20, "requests": nreq, "chunks_per_request": per_req}
    L = {k: [] for k in ("prepare_store", "commit_store", "lookup", "wait", "prepare_retrieve", "commit_retrieve", "end_session")}
    S, R, M, W, CTL_S, CTL_R, lost, bad = [], [], [], [], [], [], 0, 0
    rounds = warm_rounds + 1
    for rnd in range(rounds):
        rec = rnd > 0 or rounds == 1
        P = [tokens(seed + rnd * 100000 + i, per_req * 256) for i in range(nreq)]
        keys = [enc(make_key(t, f"{label}{seed}_{rnd}_{i}", worker_id=0, model=model)) for i, t in enumerate(P)]
        lkeys = [enc(make_key(t, f"{label}{seed}_{rnd}_{i}", model=model)) for i, t in enumerate(P)]
        e_inst, e0 = enc(inst), enc(b"")
        ts = tc = 0.0
        slots_all = []
        for i in range(nreq):
            f1 = c.frame("prepare_store", keys[i], e_inst); f2 = c.frame("commit_store", keys[i], e_inst, e0)
            a = time.perf_counter(); rep = c.call_raw(f1); b = time.perf_counter()
            slots = (dec(rep).get("context") or {}).get("slots") or []
            lost += per_req - len(slots)
            d = time.perf_counter()
            for j, s in enumerate(slots):
                np.copyto(pool.a[s["offset"]:s["offset"] + s["length"]], src[j * chunk:(j + 1) * chunk])
            e = time.perf_counter()
            ok = dec(c.call_raw(f2)) if slots else None
            f = time.perf_counter()
            if slots and ok is not True:
                bad += 1
            slots_all.append(slots)
            ts += f - a; tc += e - d
            if rec:
                L["prepare_store"].append((b - a) * 1e6); L["commit_store"].append((f - e) * 1e6)
        nb = nreq * per_req * chunk
        (S if rec else W).append(nb / ts / 1e9); CTL_S.append((ts - tc) * 1e3 / (nb / 2**30))
        ts = tc = 0.0
        hits = 0
        for i in range(nreq):
            rid = enc(f"{label}{seed}_{rnd}_{i}")
            fs = [c.frame("lookup", lkeys[i], enc(1)), c.frame("wait_prefetch_status", rid, enc(10.0)),
                  c.frame("prepare_retrieve", keys[i], e_inst), c.frame("commit_retrieve", keys[i], e_inst), c.frame("end_session", rid)]
            t0 = time.perf_counter(); c.call_raw(fs[0]); t1 = time.perf_counter()
            h = dec(c.call_raw(fs[1])); t2 = time.perf_counter()
            hits += h or 0
            rep = dec(c.call_raw(fs[2])); t3 = time.perf_counter()
            sl = (rep.get("context") or {}).get("slots") or []
            for j, s in enumerate(sl):
                np.copyto(dst[j * chunk:(j + 1) * chunk], pool.a[s["offset"]:s["offset"] + s["length"]])
            t4 = time.perf_counter(); c.call_raw(fs[3]); t5 = time.perf_counter(); c.call_raw(fs[4]); t6 = time.perf_counter()
            ts += t6 - t0; tc += t4 - t3
            if i == 0 and not np.array_equal(dst, src):
                bad += 1
            if rec:
                for k, v in zip(("lookup", "wait", "prepare_retrieve", "commit_retrieve", "end_session"), (t1 - t0, t2 - t1, t3 - t2, t5 - t4, t6 - t5)):
                    L[k].append(v * 1e6)
        lost += 0 if hits == nreq * per_req else nreq * per_req - hits
        if rec:
            R.append(nb / ts / 1e9)
        CTL_R.append((ts - tc) * 1e3 / (nb / 2**30))
        # physical limit: the same copies into and out of the same slots
        for direction in (0, 1):
            t = time.perf_counter(); n = 0
            for slots in slots_all:
                for j, s in enumerate(slots):
                    x, y = pool.a[s["offset"]:s["offset"] + s["length"]], src[j * chunk:(j + 1) * chunk]
                    np.copyto(x, y) if direction == 0 else np.copyto(dst[j * chunk:(j + 1) * chunk], x)
                    n += s["length"]
            if rec and n:
                M.append((direction, n / (time.perf_counter() - t) / 1e9))
        c.call("clear", True, timeout=60)
    mi, mo = med([x for d, x in M if d == 0]), med([x for d, x in M if d == 1])
    out.update(store_GBps=round(med(S), 3), memcpy_in_GBps=round(mi, 3), store_efficiency=round(med(S) / mi, 3),
               store_cold_GBps=round(med(W), 3) if W else None,
               retrieve_GBps=round(med(R), 3), memcpy_out_GBps=round(mo, 3), retrieve_efficiency=round(med(R) / mo, 3),
               store_control_ms_per_gib=round(med(CTL_S[1:] or CTL_S), 3), retrieve_control_ms_per_gib=round(med(CTL_R[1:] or CTL_R), 3),
               lost_chunks=lost, bad=bad)
    for k, v in L.items():
        s = stats_us(v); out[k + "_p50_us"], out[k + "_p99_us"] = s["p50_us"], s["p99_us"]
    c.call("unregister_kv_cache_engine_driven_context", inst)
    pool.close()
    return out


def peer_context(srv, mode, total, seed, layers=32, heads=8, hs=128, block=16, per_req=8, rounds=3):
    """Store/retrieve through the peer's own transfer-context classes, paged CPU KV tensors."""
    import torch, zmq
    from lmcache.utils import EngineType
    from lmcache.v1.multiprocess.group_view import EngineGroupInfo
    from lmcache.v1.multiprocess.transfer_context import create_transfer_context
    from lmcache.v1.multiprocess.transport.zmq_impl import create_request_client
    chunk = layers * 2 * 256 * heads * hs * 2
    nreq = total // (chunk * per_req); bpc = 256 // block; nb = nreq * per_req * bpc
    ctx = zmq.Context(); ctx.setsockopt(zmq.LINGER, 0)
    cl = create_request_client(f"tcp://127.0.0.1:{srv.port}", context=ctx)
    kv = {f"layer.{i}": torch.randint(0, 30000, (2, nb, block, heads, hs), dtype=torch.int16).view(torch.bfloat16) for i in range(layers)}
    model, inst = f"pm-{mode}", 900 + (mode == "lmcache_driven")
    tc = create_transfer_context(kv, mode=mode, instance_id=inst, req_client=cl)
    infos = [EngineGroupInfo(engine_group_id=0, layer_indices=tuple(range(layers)), tokens_per_block=block)]
    tc.register(kv, model, 1, bpc, 30.0, layout_hints={"kv_layout": "NHD"}, engine_group_infos=infos, engine_type=EngineType.VLLM)
    out = {"chunk_mib": chunk / 2**20, "requests": nreq, "bytes_gib": nreq * per_req * chunk / 2**30}
    S, R, SL, RL, failed, lost, wrong = [], [], [], [], 0, 0, 0
    M = []
    flat = [t.view(torch.uint8).view(-1) for t in kv.values()]
    buf = [torch.empty_like(x) for x in flat]
    for b in buf:
        b.fill_(1)
    srv_cpu = []
    for rnd in range(rounds + 1):
        P = [tokens(seed + rnd * 10000 + i, per_req * 256) for i in range(nreq)]
        c0 = srv.cpu_s(); t0 = time.perf_counter()
        for i, t in enumerate(P):
            a = time.perf_counter(); rid = f"{mode}{seed}_{rnd}_{i}"
            blocks = list(range(i * per_req * bpc, (i + 1) * per_req * bpc))
            ev = tc.create_recorded_event()
            ok = tc.submit_store(rid, make_key(t, rid, worker_id=0, model=model), kv, [blocks], ev, bpc).result(timeout=60)
            failed += not ok
            if rnd:
                SL.append((time.perf_counter() - a) * 1e6)
        dt = time.perf_counter() - t0
        if rnd:
            S.append(nreq * per_req * chunk / dt / 1e9); srv_cpu.append((srv.cpu_s() - c0) * 1e3 / out["bytes_gib"])
        else:
            out["store_cold_GBps"] = round(nreq * per_req * chunk / dt / 1e9, 3)
        sums = [int(x[:4096 * 4096].to(torch.int64).sum()) for x in flat[:2]]
        for x in flat:
            x.zero_()
        t0 = time.perf_counter()
        for i, t in enumerate(P):
            a = time.perf_counter(); rid = f"{mode}{seed}_{rnd}_{i}"
            blocks = list(range(i * per_req * bpc, (i + 1) * per_req * bpc))
            cl.lookup(make_key(t, rid, model=model), 1).result(timeout=30)
            h = cl.wait_prefetch_status(rid, 10.0).result(timeout=30)
            lost += per_req - (h or 0)
            if h:
                ev = tc.create_recorded_event()
                ok = tc.submit_retrieve(rid, make_key(t, rid, worker_id=0, model=model), kv, [blocks], ev, bpc).result(timeout=60)
                failed += not ok
            cl.end_session(rid).result(timeout=30)
            if rnd:
                RL.append((time.perf_counter() - a) * 1e6)
        if rnd:
            R.append(nreq * per_req * chunk / (time.perf_counter() - t0) / 1e9)
        wrong += sums != [int(x[:4096 * 4096].to(torch.int64).sum()) for x in flat[:2]]
        t0 = time.perf_counter()
        for x, y in zip(flat, buf):
            np.copyto(y.numpy(), x.numpy())
        if rnd:
            M.append(sum(x.numel() for x in flat) / (time.perf_counter() - t0) / 1e9)
        cl.clear(True).result(timeout=60)
    s, r = stats_us(SL), stats_us(RL)
    out.update(store_GBps=round(med(S), 3), retrieve_GBps=round(med(R), 3), memcpy_GBps=round(med(M), 3),
               store_efficiency=round(med(S) / med(M), 3), retrieve_efficiency=round(med(R) / med(M), 3),
               store_p50_us=s["p50_us"], store_p99_us=s["p99_us"], retrieve_p50_us=r["p50_us"], retrieve_p99_us=r["p99_us"],
               srv_cpu_ms_per_gib_store=round(med(srv_cpu), 1), failed=failed, lost_chunks=lost, wrong_data=wrong)
    f = tc.unregister()
    if f is not None:
        f.result(timeout=30)
    tc.close(); kv.clear(); cl.close(); ctx.term()
    return out


def one(label, template, rnd):
    args = ["--l1-size-gb", "3", "--eviction-policy", "LRU", "--supported-transfer-mode", "auto", "--shm-name", "{shm}"] + A.server_args.split()
    G = 2**30 // (4 if A.quick else 1)
    d, seed = {}, 10_000_000 * (rnd + 1)
    with Server(label, template, args) as s:
        c = s.client(60)
        for nm, f in (("engine_32MiB", lambda: engine(s, c, "big", 32, 1024, 1, G, 8, seed)),
                      ("engine_1MiB", lambda: engine(s, c, "small", 4, 256, 2, G, 8, seed + 1_000_000)),
                      ("engine_1MiB_1chunk", lambda: engine(s, c, "one", 4, 256, 3, G // 4, 1, seed + 2_000_000)),
                      ("lmcache_driven_32MiB", lambda: peer_context(s, "lmcache_driven", G, seed + 3_000_000)),
                      ("engine_peerclient_32MiB", lambda: peer_context(s, "engine_driven", G, seed + 4_000_000))):
            if A.only and A.only not in nm:
                continue
            try:
                d[nm] = f()
            except Exception as e:
                import traceback
                traceback.print_exc()
                d[nm] = {"error": f"{type(e).__name__}: {e}"[:1000]}
        d["log"] = s.log_problems()
    return d


p = parser(__doc__, rounds=2)
p.add_argument("--server-args", default="")
p.add_argument("--only", help="only cases whose name contains this")
A = p.parse_args(); A.warm_gib = 9
report(A, run_rounds(A, "transfer", one), [r"GBps|efficien|_us$|per_gib|lost|bad|failed|wrong"])
