"""Quotas of tenants: the `/quota` API as the reference server answers it, and what a quota does to either tier."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import pytest

from mpkit.deviation import differs
from mpkit.engine import OBJECT_BYTES, prompt
from mpkit.process import StartFailed
from mpkit.wait import becomes, until

from test_cache_control import call, fs
from test_capacity import CAPACITY, SMALL_GB, objects

GIB = 1 << 30

#: A capacity that no test here fills.
ROOMY = {"max_capacity_gb": 1, "eviction": {"eviction_policy": "LRU"}}


def raw_put(server, path: str, body: bytes) -> tuple[int, str]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.http_port}{path}", data=body, method="PUT",
        headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_quota_comes_and_goes(server):
    assert call(server, "/quota/alice", "PUT", {"limit_gb": 1.5}) == {
        "cache_salt": "alice", "limit_gb": 1.5, "status": "ok"}
    shown = call(server, "/quota/alice")
    assert (shown["cache_salt"], shown["limit_gb"], shown["exists"]) == ("alice", 1.5, True)
    assert shown["current_usage_gb"] == 0.0
    assert call(server, "/quota")["users"]["alice"]["limit_gb"] == 1.5
    assert call(server, "/quota/alice", "DELETE") == {"cache_salt": "alice", "status": "removed"}
    assert call(server, "/quota/alice", "DELETE") == {"cache_salt": "alice", "status": "not_found"}
    gone = call(server, "/quota/alice")
    assert (gone["limit_gb"], gone["current_usage_gb"], gone["exists"]) == (0.0, 0.0, False)


def test_the_empty_salt_has_a_name(server):
    assert call(server, "/quota/_default", "PUT", {"limit_gb": 2}) == {
        "cache_salt": "_default", "limit_gb": 2.0, "status": "ok"}
    assert call(server, "/quota")["users"]["_default"]["limit_gb"] == 2.0
    assert call(server, "/quota/_default", "DELETE")["status"] == "removed"


@pytest.mark.parametrize(("limit", "stored"), [(True, 1.0), ("2.5", 2.5), (" 1e1 ", 10.0), (0, 0.0)])
def test_what_counts_as_a_number(server, limit, stored):
    assert call(server, "/quota/bob", "PUT", {"limit_gb": limit})["limit_gb"] == stored
    call(server, "/quota/bob", "DELETE")


@pytest.mark.parametrize(("body", "error"), [
    (b'{"limit_gb":-1}', "limit_gb must be non-negative"),
    (b'{"limit_gb":"x"}', "limit_gb must be numeric"),
    (b'{"limit_gb":null}', "limit_gb must be numeric"),
    (b'{"limit_gb":[1]}', "limit_gb must be numeric"),
    (b'{"limit_gb": NaN}', "limit_gb must be finite"),
    (b'{"limit_gb":"inf"}', "limit_gb must be finite"),
    (b"{}", "body must be {'limit_gb': <float>}"),
    (b"[1]", "body must be {'limit_gb': <float>}"),
    (b"{", "invalid JSON body"),
    (b"", "invalid JSON body"),
])
def test_what_is_no_quota(server, body, error):
    status, text = raw_put(server, "/quota/bob", body)
    assert (status, json.loads(text)) == (400, {"error": error})
    assert call(server, "/quota/bob")["exists"] is False


def test_a_salt_with_a_slash_can_not_be_named(server):
    assert call(server, "/quota/a%2Fb", status=404) == {"detail": "Not Found"}


def mock(policy: str) -> str:
    return json.dumps({"type": "mock", "max_size_gb": 0.1, "mock_bandwidth_gb": 10,
                       "eviction": {"eviction_policy": policy}})


def test_a_salt_without_a_quota(own_server, engines, model):
    server = own_server("--l2-adapter", mock("IsolatedLRU"))
    call(server, "/quota/alice", "PUT", {"limit_gb": 0.1})
    engine = engines(server)
    for salt in ("alice", "bob"):
        engine.store(prompt(model, 4), cache_salt=salt)
    used = lambda salt: call(server, f"/quota/{salt}")["current_usage_gb"]
    assert until(lambda: used("alice") > 0)
    becomes(lambda: used("bob") > 0, limit_s=2.0)  # it may be gone before it is seen
    is_deleted = becomes(lambda: used("bob") == 0, limit_s=3.0)
    assert is_deleted is differs(server, "salt-without-quota", peer=True, ours=False)
    assert used("alice") > 0


def test_eviction_without_a_capacity(own_server, tmp_path):
    config = json.loads(fs(tmp_path)) | {"eviction": {"eviction_policy": "LRU"}}
    try:
        server = own_server("--l2-adapter", json.dumps(config))
    except StartFailed as failed:
        assert "nothing to go by" in str(failed)
        return
    assert differs(server, "eviction-without-capacity", peer="starts", ours="is refused") == "starts"


@pytest.mark.ours_only
def test_a_tenant_over_its_quota_gives_in_both_tiers_and_nobody_else(own_server, engines, model, tmp_path):
    config = json.loads(fs(tmp_path)) | ROOMY
    server = own_server("--l2-adapter", json.dumps(config))
    engine = engines(server)
    for salt in ("alice", "bob"):
        for index in range(4):
            engine.store(prompt((model, index), 4), cache_salt=salt)
    used = lambda salt: [call(server, f"/quota/{salt}")[key] for key in ("l1_usage_gb", "current_usage_gb")]
    full = 16 * OBJECT_BYTES / GIB
    assert until(lambda: used("alice") == used("bob") == [full, full])
    call(server, "/quota/alice", "PUT", {"limit_gb": full / 2})
    assert until(lambda: all(0 < tier <= full / 2 for tier in used("alice"))), used("alice")
    assert used("bob") == [full, full]
    listed = call(server, "/quota")
    assert set(listed["users"]) == {"alice"} and set(listed["without_quota"]) == {"bob"}
    assert engine.hits(prompt((model, 3), 4), cache_salt="alice") == 4, "the newest stays"
    call(server, "/quota/alice", "PUT", {"limit_gb": 0})
    assert until(lambda: used("alice") == [0, 0])
    assert 'lmcache_mp_l2_evicted_objects_chunks_total{cache_salt="alice"} 16' in server.http("/metrics")[1]


@pytest.mark.ours_only
def test_quotas_may_be_given_at_the_start(own_server, engines, model):
    server = own_server("--quota", f"alice={4 * OBJECT_BYTES / GIB}", "_default=1", "--quota-default-gb", "0")
    engine = engines(server)
    tokens = prompt(model, 6)
    assert engine.store(tokens, cache_salt="bob") == 0, "whoever has no quota has nothing"
    assert engine.store(tokens) == 6
    engine.store(tokens, cache_salt="alice")
    assert call(server, "/quota/alice")["l1_usage_gb"] <= 4 * OBJECT_BYTES / GIB
    assert engine.hits(tokens) == 6
    assert call(server, "/quota")["default_limit_gb"] == 0.0
    call(server, "/quota/bob", "PUT", {"limit_gb": 1})
    assert engine.store(tokens, cache_salt="bob") == 6


@pytest.mark.ours_only
def test_a_flood_of_one_tenant_leaves_the_others_their_quota(own_server, engines, model):
    server = own_server("--eviction-policy", "IsolatedLRU", "--quota", f"quiet={32 * OBJECT_BYTES / GIB}",
                        l1_size_gb=SMALL_GB)
    engine = engines(server)
    quiet = prompt((model, "quiet"), 32)
    assert engine.store(quiet, cache_salt="quiet") == 32
    for index in range(3 * CAPACITY // 16):
        engine.store(prompt((model, index), 16), cache_salt="loud")
    assert until(lambda: objects(server)["total_object_count"] <= CAPACITY)
    assert engine.hits(quiet, cache_salt="quiet") == 32
