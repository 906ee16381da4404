"""What other hands put into Redis stops nobody: names that no document has, and entries that make no sense."""

from __future__ import annotations

from uuid import UUID

import pytest

from tests.integration.conftest import again, flush_all
from writebehind.documents import codec
from writebehind.errors import UnreadableDocumentError
from writebehind.redis.keys import partition_keys

A_UUID = "00112233-4455-6677-8899-aabbccddeeff"
#: No document has such a member, though some could be read as the id of one.
STRAYS = [
    *(b"", b"garbage", b"/s:ada", b"users/", b"users/z:ada", b"users/s:\xff\xfe", b"users/o:zz", b"users/u:zz"),
    *(b"users/i:zz", b"users/i: 5", b"users/i:05", "users/i:\u0663".encode(), b"users/i:9223372036854775808"),
    *(b"users/u:{%s}" % A_UUID.encode(), UUID(A_UUID).bytes),
]
NAMES = [f"u{at}" for at in range(8)]
SENSELESS = [b"", b"x", b"0" * 16, b"0" * 16 + b"Z", b"z" * 16 + b"X", b"0" * 16 + b"D" + b"\xff" * 40]
#: What `int` takes for a number, and no script for the same version.
SENSELESS += [b"+" + b"1" * 15 + b"X", b" " + b"1" * 15 + b"X", b"1_" * 7 + b"11X"]


@pytest.mark.parametrize("with_entry", [False, True], ids=["alone", "with an entry"])
def test_what_names_no_document_keeps_nobody(pipeline, users, stored, caplog, with_entry):
    """It is taken out of what is pending in each partition, and told; all documents reach MongoDB."""
    wire = pipeline.store._wire
    for partition in range(pipeline.settings.partitions):
        of = partition_keys(partition)
        for stray in STRAYS:
            if with_entry:
                wire.call("SET", of.entry("").encode() + stray, b"0" * 16 + b"X")
            wire.call("ZADD", of.pending, 1, stray)
    for name in NAMES:
        users.put(name, {"n": 1})

    strays = len(STRAYS) * pipeline.settings.partitions
    assert len(NAMES) + strays == pipeline.status()["pending"]
    flush_all(pipeline)

    assert set(NAMES) == {one["_id"] for one in stored.find()}
    assert 0 == pipeline.status()["dead_letters"]
    assert f"other hands put {len(STRAYS)} names of no document into" in caplog.text


def test_a_member_of_another_partition_keeps_nobody(pipeline, users, stored):
    """A document belongs to one partition: in the others its name is nobody's."""
    users.put("ada", {"n": 1})
    for partition in range(pipeline.settings.partitions):
        pipeline.store._wire.call("ZADD", partition_keys(partition).pending, 1, "users/s:ada")

    flush_all(pipeline)

    assert ["ada"] == [one["_id"] for one in stored.find()]
    assert 0 == pipeline.status()["dead_letters"]


def test_what_was_acknowledged_in_another_partition_is_kept(pipeline, users, stored, caplog):
    """A process that takes Redis to be divided in another way has put it there, with its entry: it is a write."""
    wrong = pipeline.settings.partitions
    pipeline.store.assigned.record(wrong)  # else servers with names have one partition less
    other = again(pipeline, wrong - 1)
    names = [f"u{n}" for n in range(40)]
    for name in names:
        other.collection("users").put(name, {"n": 1})

    flush_all(pipeline)

    assert set(names) == {one["_id"] for one in stored.find()}
    assert "other hands" not in caplog.text


def test_deletions_of_nothing_keep_nobody_from_being_audited(pipeline, users):
    """Deletions in all partitions are audited, whatever other hands noted among them."""
    wire, long_ago = pipeline.store._wire, pipeline.store.now_ms() - 3_600_000
    for name in NAMES:
        users.put(name, {"n": 1})
        users.delete(name)
    flush_all(pipeline)
    for partition in range(pipeline.settings.partitions):
        of = partition_keys(partition)
        for member in wire.call("ZRANGE", of.deleted_at, 0, -1):
            wire.call("ZADD", of.deleted_at, long_ago, member)
        for stray in STRAYS:
            for key in (of.deleted_at, of.deleted, of.hot):
                wire.call("ZADD", key, 1, stray)
        wire.call("HSET", of.heat, "since", 1)

    pipeline.maintenance.reconcile()
    audited = sum(pipeline.maintenance.audit_deletions()["audited"] for _ in range(2))

    assert len(NAMES) == audited
    assert [] == pipeline.hot_keys.top(10)


def test_a_deletion_of_no_version_ends_no_audit(pipeline, users):
    """One that is between two versions is forgotten, and all that is beside it and after it is audited."""
    wire = pipeline.store._wire
    for name in NAMES:
        users.put(name, {"n": 1})
        users.delete(name)
    flush_all(pipeline)
    for partition in range(pipeline.settings.partitions):
        of = partition_keys(partition)
        for number, version in enumerate(("5.5", "1e-9", "inf", "1e300", "2251799813685248.5")):
            wire.call("ZADD", of.deleted, version, f"users/s:bad{number}")
            wire.call("ZADD", of.deleted_at, 1, f"users/s:bad{number}")
        for member in wire.call("ZRANGE", of.deleted_at, 0, -1):
            wire.call("ZADD", of.deleted_at, 1, member)

    assert len(NAMES) == pipeline.maintenance.audit_deletions()["audited"]

    left = [partition_keys(partition).deleted for partition in range(pipeline.settings.partitions)]
    assert 0 == wire.call("EXISTS", *left)


@pytest.mark.parametrize("value", SENSELESS, ids=repr)
def test_an_entry_that_makes_no_sense_fails_no_other(pipeline, users, value):
    """Readers of several documents get the others, it is one that nobody can read, and a write mends it."""
    users.put("good", {"n": 1})
    pipeline.store._wire.call("SET", pipeline.store.cache.key(users.id("bad").member), value)

    bad, good = users.read_many(["bad", "good"])[0]

    assert good.exists
    assert (False, True) == (_is_readable(users, bad), _is_readable(users, good))
    with pytest.raises(UnreadableDocumentError):
        users.get("bad")
    users.put("bad", {"n": 2})
    assert 2 == users.get("bad")["n"]


def _is_readable(users, entry) -> bool:
    try:
        codec.decode(entry.body)
    except UnreadableDocumentError:
        return False
    return True
