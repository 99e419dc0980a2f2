"""One vLLM process: reads a job as JSON on standard input, generates, writes what happened to the file it names.

    {"model", "out", "port": null | int, "prefix_caching", "prompts": [{"name", "tokens", "salt": null | str}]}

Without a port it runs without any external cache: the reference for the tokens.
"""

from __future__ import annotations

import json
import sys

#: vLLM's own counters, and what they are called in the result.
COUNTERS = {
    "vllm:external_prefix_cache_hits": "external_hits",
    "vllm:external_prefix_cache_queries": "external_queries",
    "vllm:prefix_cache_hits": "local_hits",
}


def hide_fake_attributes_of_llvmlite() -> None:
    """vLLM's CPU worker asks every object of every module for `__dict__`; llvmlite's library handle answers any
    attribute with a function, and the worker dies. lmcache imports numba, and with it llvmlite."""
    try:
        from llvmlite.binding import ffi
    except ImportError:
        return
    handle = type(ffi.lib)
    answer = handle.__getattr__

    def honest(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return answer(self, name)

    handle.__getattr__ = honest


def connector(port: int) -> dict[str, object]:
    return {
        "kv_connector": "LMCacheMPConnector",
        "kv_role": "kv_both",
        "kv_connector_extra_config": {
            "lmcache.mp.host": "tcp://127.0.0.1",
            "lmcache.mp.port": port,
            "lmcache.mp.mp_transfer_mode": "engine_driven",
            "lmcache.mp.mq_timeout": 60,
        },
    }


def counters(llm) -> dict[str, int]:
    totals = dict.fromkeys(COUNTERS.values(), 0)
    for metric in llm.get_metrics():
        if metric.name in COUNTERS:
            totals[COUNTERS[metric.name]] += int(metric.value)
    return totals


def main() -> None:
    job = json.load(sys.stdin)
    hide_fake_attributes_of_llvmlite()
    import vllm

    extra = {} if job["port"] is None else {"kv_transfer_config": connector(job["port"])}
    llm = vllm.LLM(
        model=job["model"], skip_tokenizer_init=True, dtype="float32", enforce_eager=True, seed=0,
        enable_prefix_caching=job["prefix_caching"], max_model_len=4096, max_num_batched_tokens=1024, max_num_seqs=4,
        disable_log_stats=False, **extra)
    sampling = vllm.SamplingParams(temperature=0.0, max_tokens=12, ignore_eos=True, detokenize=False, seed=0)
    rows = []
    before = counters(llm)
    for prompt in job["prompts"]:
        request = {"prompt_token_ids": prompt["tokens"]}
        if prompt["salt"]:
            request["cache_salt"] = prompt["salt"]
        (output,) = llm.generate([request], sampling, use_tqdm=False)
        after = counters(llm)
        rows.append({
            "name": prompt["name"],
            "tokens": list(output.outputs[0].token_ids),
            "cached_tokens": output.num_cached_tokens,
            **{name: after[name] - before[name] for name in after},
        })
        before = after
    llm.llm_engine.engine_core.shutdown()
    with open(job["out"], "w") as file:
        json.dump(rows, file)


if __name__ == "__main__":
    main()
