#!/usr/bin/env python3
"""Is a store visible to a lookup once the server has acknowledged it?

Stores prompts of 1 and of 8 chunks (Llama-3-8B-like KV, lmcache_driven CPU SHM, through
the peer's own LMCacheDrivenTransferContext; and engine_driven commit_store for comparison),
then looks up at once and keeps looking up until the whole prompt hits.
"""
import sys, time
sys.path.insert(0, __file__.rsplit("/", 1)[0])
from measure import *  # noqa


def one(label, template, rnd):
    import torch, zmq
    from lmcache.utils import EngineType
    from lmcache.v1.multiprocess.group_view import EngineGroupInfo
    from lmcache.v1.multiprocess.transfer_context import create_transfer_context
    from lmcache.v1.multiprocess.transport.zmq_impl import create_request_client
    out = {}
    with Server(label, template, ["--l1-size-gb", "2", "--eviction-policy", "LRU", "--supported-transfer-mode", "auto", "--shm-name", "{shm}"]) as s:
        ctx = zmq.Context(); ctx.setsockopt(zmq.LINGER, 0)
        cl = create_request_client(f"tcp://127.0.0.1:{s.port}", context=ctx)
        for mode in ("lmcache_driven", "engine_driven"):
            kv = {f"layer.{i}": torch.zeros((2, 128, 16, 8, 128), dtype=torch.bfloat16) for i in range(32)}
            tc = create_transfer_context(kv, mode=mode, instance_id=7 + (mode[0] == "e"), req_client=cl)
            model = "vis-" + mode
            tc.register(kv, model, 1, 16, 30.0, layout_hints={"kv_layout": "NHD"},
                        engine_group_infos=[EngineGroupInfo(engine_group_id=0, layer_indices=tuple(range(32)), tokens_per_block=16)], engine_type=EngineType.VLLM)
            for n in (1, 8):
                late, delay, ack = 0, [], []
                N = 5 if A.quick else 15
                for i in range(N):
                    t = tokens(1000 * n + i + (mode[0] == "e") * 500000, 256 * n); rid = f"{mode}{n}_{i}"
                    a = time.perf_counter()
                    ok = tc.submit_store(rid, make_key(t, rid, worker_id=0, model=model), kv, [list(range(16 * n))], tc.create_recorded_event(), 16).result(timeout=60)
                    b = time.perf_counter(); ack.append((b - a) * 1e3)
                    assert ok
                    j = 0
                    while True:
                        r2 = f"{rid}_{j}"; k = make_key(t, r2, model=model)
                        cl.lookup(k, 1).result(timeout=10); h = cl.wait_prefetch_status(r2, 5.0).result(timeout=10)
                        if h:
                            cl.free_lookup_locks(k, 1).result(timeout=10)
                        cl.end_session(r2).result(timeout=10)
                        if h == n:
                            break
                        j += 1
                        if time.perf_counter() - b > 5:
                            break
                    late += j > 0
                    delay.append((time.perf_counter() - b) * 1e3 if j else 0.0)
                    cl.clear(True).result(timeout=30)
                out[f"{mode}_{n}chunks"] = {"stores": N, "not_visible_at_ack": late, "visible_after_ms_p50": round(pct(delay, 50), 2),
                                            "visible_after_ms_max": round(max(delay), 2), "ack_ms_p50": round(pct(ack, 50), 2)}
            tc.unregister(); tc.close()
        cl.close(); ctx.term()
        out["log"] = s.log_problems()
    return out


A = parser(__doc__, rounds=1).parse_args()
report(A, run_rounds(A, "visibility", one))
