"""Deletions that are looked at once more, when every flusher that might have overtaken them is gone."""

from __future__ import annotations

import bson

from tests.integration.flusher.conftest import PARTITION, names
from writebehind.redis.keys import partition_keys


def test_the_audit_drops_what_was_read_meanwhile(pipeline, users, flusher, monkeypatch):
    """A document that a late flusher brought back is gone for readers too, once its deletion is audited."""
    monkeypatch.setattr("writebehind.flushing.deletion_audit.GRACE_LEASES", -1)
    [ada] = names(pipeline, 1)
    pipeline.collection("users").delete(ada)
    flusher.flush(PARTITION)
    entry = partition_keys(PARTITION).entry(f"users/s:{ada}")
    users.insert_one({"_id": ada, "n": 1, "_v": bson.Int64(5)})
    pipeline.store._wire.call(
        "SET", entry, b"0000000000000005D" + b"0" * 32 + bson.encode({"_id": ada}), "PX", 60_000
    )

    assert {"audited": 1, "deleted_again": 1} == pipeline.maintenance.audit_deletions()

    assert pipeline.collection("users").get(ada) is None
    assert 0 == users.count_documents({"_id": ada})


def test_one_sweep_audits(pipeline, flusher, monkeypatch):
    """While one sweep audits many deletions others go on without; and what takes too long is left to the next."""
    monkeypatch.setattr("writebehind.flushing.deletion_audit.GRACE_LEASES", -1)
    monkeypatch.setattr("writebehind.flushing.deletion_audit.SLICE", 2)
    for name in names(pipeline, 5):
        pipeline.collection("users").delete(name)
    flusher.flush(PARTITION)
    others, delete_older = [], pipeline.sink.delete_older

    def slowly(collection, versions):
        others.append(pipeline.maintenance.audit_deletions())
        return delete_older(collection, versions)

    monkeypatch.setattr(pipeline.sink, "delete_older", slowly)
    with monkeypatch.context() as patch:
        patch.setattr("writebehind.flushing.deletion_audit.MOST_S", 0.0)
        assert 2 == pipeline.maintenance.audit_deletions()["audited"]
    assert 3 == pipeline.maintenance.audit_deletions()["audited"]
    assert [0] * 3 == [one["audited"] for one in others]
