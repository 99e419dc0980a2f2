#!/usr/bin/env python3
"""Robustness probes of an MP cache server: what a broken or unlucky client sees.

Each value is the outcome in words; 'hang' = no reply within 3 s (the peer's clients
then wait for their own timeout). Malformed messages come from one client; alive_after
says whether *another*, well-behaved client still gets answers, and http_says what
/healthcheck claims at that time.
"""
import sys, time
sys.path.insert(0, __file__.rsplit("/", 1)[0])
from measure import *  # noqa

BASE = ["--l1-size-gb", "0.25", "--eviction-policy", "LRU", "--supported-transfer-mode", "auto", "--shm-name", "{shm}"]


def alive(s):
    try:
        c = s.client(3)
        r = c.call("noop") == "OK" and c.call("ping", None) is True
        c.close()
        return bool(r)
    except Exception as e:
        return f"no ({type(e).__name__})"


def http_says(s):
    try:
        return s.http("/healthcheck", timeout=3)
    except Exception as e:
        return f"{type(e).__name__}: {e}"


def fatal(label, template, frames):
    s = Server(label, template, BASE).start()
    try:
        c = s.client(3)
        c.send(zmtp_frames(frames))
        time.sleep(1.5)
        r = {"alive_after": alive(s), "http_says": http_says(s), "process": "running" if s.p.poll() is None else f"exit {s.p.poll()}"}
        t = s.stop(20)
        r["stop_s"], r["stop_forced"] = round(t[0], 2), t[1]
        return r
    finally:
        s.stop()


def reply_of(s, raw_frames):
    c = s.client(3)
    try:
        c.send(zmtp_frames(raw_frames))
        p = c.recv()
        return "reply " + repr([dec(x) for x in p[2:]])[:200]
    except RpcTimeout:
        return "hang"
    except Exception as e:
        return f"{type(e).__name__}: {e}"
    finally:
        c.close()


def soft(label, template):
    out = {}
    with Server(label, template, BASE) as s:
        u = enc(7)
        c = s.client(5)
        c.call("register_kv_cache_engine_driven_context", register_payload(1, 4, 256))
        k = make_key(tokens(1, 256), "x", worker_id=0)
        out["unknown_op_id"] = reply_of(s, [u, enc(250)])
        out["unknown_op_name"] = reply_of(s, [u, enc("no_such_operation")])
        out["prepare_store_unregistered_instance"] = reply_of(s, [u, op_bytes("prepare_store"), enc(k), enc(99)])
        out["lookup_missing_num_kv_readers"] = reply_of(s, [u, op_bytes("lookup"), enc(make_key(tokens(2, 256), "y", readers=0)), enc(1)])
        out["lookup_wrong_payload_count"] = reply_of(s, [u, op_bytes("lookup"), enc(make_key(tokens(2, 256), "y"))])
        out["register_bad_dtype"] = reply_of(s, [u, op_bytes("register_kv_cache_engine_driven_context"), enc(register_payload(5, 1, 8, dtype="nonsense"))])
        out["commit_store_without_prepare"] = reply_of(s, [u, op_bytes("commit_store"), enc(make_key(tokens(3, 256), "z", worker_id=0)), enc(1), enc(b"")])
        out["alive_after_all"] = alive(s)
        # full pool: what does an engine see?
        full = 0
        for i in range(400):
            sl = store_prompt(c, tokens(1000 + i, 256), f"f{i}")
            if not sl:
                full = i
                rid = f"chk{i}"
                out["store_into_full_pool"] = {"after_chunks": i, "prepare_store_reply": repr(c.call("prepare_store", make_key(tokens(1000 + i, 256), f"g{i}", worker_id=0), 1)),
                                               "reply_when_already_stored": repr(c.call("prepare_store", make_key(tokens(1000, 256), "h", worker_id=0), 1)),
                                               "lookup_of_it": lookup_hits(c, tokens(1000 + i, 256), rid)}
                break
        # an engine that dies between prepare and commit
        c.close()
        out["log"] = s.log_problems()
    return out


def abandoned(label, template):
    """Fill the pool with prepare_store of a client that disconnects; can others store?"""
    with Server(label, template, BASE) as s:
        c = s.client(5)
        c.call("register_kv_cache_engine_driven_context", register_payload(1, 4, 256))
        n = 0
        for i in range(400):
            sl = (c.call("prepare_store", make_key(tokens(i + 1, 256), f"a{i}", worker_id=0), 1).get("context") or {}).get("slots")
            if not sl:
                break
            n += 1
        c.close()
        time.sleep(6)
        c = s.client(5)
        c.call("register_kv_cache_engine_driven_context", register_payload(2, 4, 256))
        ok = sum(bool(store_prompt(c, tokens(90000 + i, 256), f"b{i}", instance_id=2)) for i in range(20))
        c.close()
        return {"abandoned_slots": n, "stores_ok_of_20_after_6s": ok}


def hol(label, template):
    """A slow L2 prefetch that one client waits for: do others' ping/lookup stall?"""
    spec = '{"type":"mock","max_size_gb":1,"mock_bandwidth_gb":0.0005}'
    args = BASE + ["--l2-adapter", spec]
    with Server(label, template, args) as s:
        c = s.client(30)
        c.call("register_kv_cache_engine_driven_context", register_payload(1, 4, 256))
        t = tokens(5, 512)
        store_prompt(c, t, "s"); c.call("end_session", "s")
        time.sleep(8)   # store-through of 2 MiB at 0.5 MB/s
        c.call("clear", True)
        k = make_key(t, "w")
        c.call("lookup", k, 1)
        raw = c.frame("wait_prefetch_status", enc("w"), enc(8.0))
        c2 = s.client(20)
        t0 = time.perf_counter(); c.send(raw); time.sleep(0.05)
        a = time.perf_counter(); c2.call("ping", None); p = time.perf_counter() - a
        a = time.perf_counter(); c2.call("noop"); nz = time.perf_counter() - a
        r = c.recv(); w = time.perf_counter() - t0
        return {"ping_during_wait_s": round(p, 3), "noop_during_wait_s": round(nz, 4), "wait_took_s": round(w, 3),
                "wait_reply": repr(dec(r[2])) if len(r) > 2 else "None"}


def one(label, template, rnd):
    d = {}
    for nm, f in (("malformed_single_frame", lambda: fatal(label, template, [b"\x01"])),
                  ("malformed_op_frame_c1", lambda: fatal(label, template, [enc(1), b"\xc1"])),
                  ("malformed_payload", lambda: fatal(label, template, [enc(1), op_bytes("ping"), b"\xc1"])),
                  ("soft", lambda: soft(label, template)), ("abandoned_prepare", lambda: abandoned(label, template)),
                  ("head_of_line", lambda: hol(label, template))):
        try:
            d[nm] = f()
        except Exception as e:
            d[nm] = {"error": f"{type(e).__name__}: {e}"[:800]}
        print(nm, json.dumps(d[nm], indent=1, default=str), file=sys.stderr)
    return d


A = parser(__doc__, rounds=1).parse_args()
res = run_rounds(A, "faults", one)
for k in res["servers"]:
    print("==", k)
    for kk, v in flatten(res["results"][k]["rounds"][0]).items():
        print(f"{kk:<55} {str(v)[:160]}")
if A.out:
    json.dump(res, open(A.out, "w"), indent=1, default=str)
