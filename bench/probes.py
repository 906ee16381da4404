"""CPU time of the product's operations: `python -P bench/probes.py REDIS_URL MONGODB_URL DATABASE`.

`bench.revisions` starts it. It measures the `writebehind` that it finds on its path, which may be of another
revision than this file: so it imports nothing else, and of that only what has long been there. It prints one JSON
object: where the package lies, and microseconds.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable

import writebehind
from writebehind import Pipeline, load_settings
from writebehind.documents import codec

CALLS, DOCUMENTS, PARTITIONS, BATCHES = 400, 300, 4, 5
TEXT = (
    b'{"name":"Ada Lovelace","born":{"$date":"1815-12-10T00:00:00Z"},"tags":["mathematics","poetry"],'
    b'"address":{"street":"12 St James\'s Square","city":"London"},"visits":42,"score":0.75,"active":true,'
    b'"lines":[%b]}' % b",".join(b'{"sku":"SKU-%05d","count":%d,"price":%d.75}' % (n, n, n) for n in range(8))
)


def microseconds(call: Callable[[int], object], calls: int = CALLS, batches: int = BATCHES) -> float:
    """The least CPU time of a call over several batches: what disturbs a run only ever adds."""
    least = float("inf")
    for _ in range(batches):
        began = time.process_time()
        for number in range(calls):
            call(number)
        least = min(least, time.process_time() - began)
    return least / calls * 1e6


def main(redis_url: str, mongodb_url: str, database: str) -> dict[str, object]:
    """Measure all of it."""
    document = codec.loads(TEXT)
    body = codec.encode(document)
    found: dict[str, object] = {
        "package": os.path.dirname(writebehind.__file__),  # noqa: PTH120 - nothing but what is needed is imported
        "codec: JSON to BSON": microseconds(lambda _: codec.encode(codec.loads(TEXT))),
        "codec: BSON to JSON": microseconds(lambda _: codec.to_json(body)),
    }
    settings = load_settings(
        redis_url=redis_url,
        mongodb_url=mongodb_url,
        mongodb_database=database,
        partitions=PARTITIONS,
        collections={"docs": {}},
    )
    with Pipeline(settings) as pipeline:
        docs = pipeline.collection("docs")
        for number in range(CALLS):  # connections and scripts are warm after it
            docs.put(f"d{number}", document)
        found["library: put"] = microseconds(lambda number: docs.put(f"d{number}", document))
        found["library: hit"] = microseconds(lambda number: docs.get(f"d{number}"))
        found["drain: a document"] = min(_drained(pipeline, docs, document) for _ in range(2))
    return found


def _drained(pipeline: Pipeline, docs: object, document: object) -> float:
    """CPU time of flushing one document of many, in this process."""
    for number in range(DOCUMENTS):
        docs.put(f"d{number}", document)
    began = time.process_time()
    for partition in range(PARTITIONS):
        pipeline.flusher.drain(partition, budget_s=60)
    return (time.process_time() - began) / DOCUMENTS * 1e6


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
