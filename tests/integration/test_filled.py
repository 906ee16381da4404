"""Pending documents that benchmarks put into Redis at once."""

from __future__ import annotations

import redis

from bench.backlog import COLLECTION, Documents, differences, fill
from writebehind import Pipeline, load_settings


def test_what_is_filled_in_is_as_writes_leave_it(one_valkey):
    """Entries, scores, encodings and the names of keys are the same; and it can be flushed from there on."""
    settings = load_settings(
        redis_url=one_valkey.url, mongodb_url="mongodb://127.0.0.1:9/", partitions=4, collections={COLLECTION: {}}
    )
    documents, client = Documents.of(300), redis.Redis.from_url(one_valkey.url)
    client.flushall()
    with client, Pipeline(settings, hints=lambda _: None) as pipeline:
        delay_ms = settings.collections[COLLECTION].flush_delay_ms
        fill(pipeline, client, documents, range(1_200), delay_ms=delay_ms)
        assert pipeline.status()["pending"] == 1_200
        assert differences(pipeline, client, documents, range(0, 1_200, 100)) == []
        client.append(pipeline.store.layout.of(documents.member(1)).entry(documents.member(1)), b"x")
        assert differences(pipeline, client, documents, range(2)) == [documents.member(1)]
