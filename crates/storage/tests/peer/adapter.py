"""Stores or loads objects with one of the peer's own L2 adapters.

Usage: adapter.py store|load CONFIG_JSON < OBJECTS_JSON

OBJECTS_JSON lists {"hash", "model", "rank", "group", "salt", "path", "bytes"}: `path` is read when storing and written
when loading. Prints a JSON list that says for each object whether the adapter holds it (store) or filled it (load).
"""

import json
import select
import sys

from lmcache.v1.distributed.api import ObjectKey
from lmcache.v1.distributed.l2_adapters.config import get_l2_adapter_config_class
from lmcache.v1.distributed.l2_adapters.factory import create_l2_adapter_from_registry


class Memory:
    """What the adapters use of the peer's memory objects."""

    def __init__(self, data):
        self.byte_array = memoryview(data)

    def get_size(self):
        return len(self.byte_array)


def wait(fd, query):
    """Polls `query` until it answers, sleeping on the event descriptor in between."""
    while (answer := query()) is None:
        select.select([fd], [], [], 1.0)
    return answer


def main():
    operation, config = sys.argv[1], json.loads(sys.argv[2])
    objects = json.load(sys.stdin)
    adapter = create_l2_adapter_from_registry(get_l2_adapter_config_class(config["type"]).from_dict(config))
    keys = [ObjectKey(bytes.fromhex(o["hash"]), o["model"], o["rank"], o["group"], o["salt"]) for o in objects]
    if operation == "store":
        memory = [Memory(bytearray(open(o["path"], "rb").read())) for o in objects]
        task = adapter.submit_store_task(keys, memory)
        wait(adapter.get_store_event_fd(), lambda: adapter.pop_completed_store_tasks().get(task))
    task = adapter.submit_lookup_and_lock_task(keys, {})
    fd = adapter.get_lookup_and_lock_event_fd()
    bitmap = wait(fd, lambda: adapter.query_lookup_and_lock_result(task))
    if operation == "load":
        memory = [Memory(bytearray(o["bytes"])) for o in objects]
        task = adapter.submit_load_task(keys, memory)
        bitmap = wait(adapter.get_load_event_fd(), lambda: adapter.query_load_result(task))
        for o, loaded in zip(objects, memory):
            open(o["path"], "wb").write(loaded.byte_array)
    adapter.submit_unlock(keys)
    print(json.dumps([bool(bitmap.test(i)) for i in range(len(keys))]))
    adapter.close()


main()
