#!/usr/bin/env python3
"""Start, idle cost and shutdown of an MP cache server.

start_rpc_s / start_http_s: process start to the first noop reply / first HTTP 200
on /healthcheck. Memory: RSS and PSS, with and without the mapped L1 pool (the
server gets a 1 GB SHM pool, found as /dev/shm/... in smaps). *_10k: after 10,000
8-KiB objects were stored. kb_per_object: growth outside the pool per object.
idle_cpu_pct: CPU of the process over 10 idle seconds. stop_s: SIGTERM to exit.
"""
import sys, time
sys.path.insert(0, __file__.rsplit("/", 1)[0])
from measure import *  # noqa


def one(label, template, rnd):
    s = Server(label, template, ["--l1-size-gb", "1", "--eviction-policy", "LRU",
                                 "--supported-transfer-mode", "auto", "--shm-name", "{shm}"])
    d = {}
    try:
        s.start(wait=False)
        s.wait_ready(poll=0.005)
        d["start_rpc_s"], d["start_http_s"] = round(s.t_rpc, 3), round(s.t_http, 3)
        d["start_cpu_s"] = round(s.cpu_s(), 3)
        time.sleep(2)
        d["idle"] = {k: round(v, 1) for k, v in memory_mb(s.pid).items()}
        idle = 3 if A.quick else 10
        c0, t0 = s.cpu_s(), time.monotonic()
        ctx0 = ctxt(s.pid)
        time.sleep(idle)
        dt = time.monotonic() - t0
        d["idle_cpu_pct"] = round((s.cpu_s() - c0) / dt * 100, 3)
        d["idle_ctx_switches_per_s"] = round((ctxt(s.pid) - ctx0) / dt, 1)
        # 10k objects: 100 prompts of 100 chunks
        c = s.client(60)
        c.call("register_kv_cache_engine_driven_context", register_payload(1, 1, 8))
        n, t0, lost = (20 if A.quick else 100), time.monotonic(), 0
        for i in range(n):
            got = store_prompt(c, tokens(rnd * 1000 + i, 25600), f"life{i}")
            lost += 100 - len(got)
            c.call("end_session", f"life{i}")
        d["store_10k_s"] = round(time.monotonic() - t0, 2)
        d["lost_of_10k"] = lost
        time.sleep(1)
        m = {k: round(v, 1) for k, v in memory_mb(s.pid).items()}
        d["after_10k"] = m
        d["kb_per_object"] = round((m["rss_excl_pool_mb"] - d["idle"]["rss_excl_pool_mb"]) * 1024 / (n * 100), 2)
        c.close()
        d["log"] = s.log_problems()
        pids = descendants(s.pid)
        d["stop_s"], forced, rc = s.stop(30)
        d["stop_s"] = round(d["stop_s"], 3)
        d["stop_forced"], d["exit_code"] = int(forced), rc
        time.sleep(1)
        d["left_processes"] = sum(proc_alive(q) for q in pids)
        # crash stop: does a restart on the same pool name work after SIGKILL?
        s2 = Server(label, template, s.args)
        s2.start(http=False)
        os.kill(s2.pid, signal.SIGKILL); s2.p.wait()
        left = [x for x in os.listdir("/dev/shm") if s2.shm in x]
        s3 = Server(label, template, s.args); s3.shm = s2.shm
        s3.start(http=False)
        d["restart_after_kill_rpc_s"] = round(s3.t_rpc, 3)
        d["shm_left_after_sigkill"] = len(left)
        s3.stop(); s2.stop()
    finally:
        s.stop()
    return d


def ctxt(pid):
    n = 0
    for t in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError):
            for l in open(f"/proc/{pid}/task/{t}/status"):
                if "ctxt_switches" in l:
                    n += int(l.split()[1])
    return n


A = parser(__doc__).parse_args()
report(A, run_rounds(A, "lifecycle", one))
