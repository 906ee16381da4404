"""The step that looks at documents as readers see them."""

from __future__ import annotations

from writebehind.documents.entry import Entry
from writebehind.redis.keys import partition_keys

HEADER = b"0000000000000005D" + b"a" * 32


def test_each_document_is_seen_as_it_stands_at_one_moment(store, wire):
    """Headers, times and whether documents are pending or dead, whatever their partition; nothing else of them."""
    names = ["clean", "pending", "dead", "lost", "lasting", "absent", "pending-with-ttl"]
    members = [f"users/s:{name}" for name in names]
    of = {member: partition_keys(store.partition_of(member)) for member in members}
    clean, pending, dead, lost, lasting, absent, odd = members
    for member in (pending, dead, lasting):
        wire.call("SET", of[member].entry(member), HEADER + b"body")
    for member in (clean, odd):
        wire.call("SET", of[member].entry(member), HEADER + b"body", "PX", 60_000)
    for member in (pending, lost, odd):
        wire.call("ZADD", of[member].pending, 1, member)
    wire.call("HSET", of[dead].dead, dead, b"letter")

    seen = store.unsettled.observe(members)

    assert set(members) == set(seen)
    assert {clean, pending, dead, lasting, odd} == {one for one in members if seen[one].header == HEADER}
    assert {pending, dead, lost} == {one for one in members if seen[one].unsettled}
    assert [-1, -1, -2, -1, -2] == [seen[one].ttl_ms for one in (pending, dead, lost, lasting, absent)]
    assert 0 < seen[clean].ttl_ms <= 60_000
    assert {} == store.unsettled.observe([])


def test_bodies_are_compared_with_their_etags(store, wire):
    """Those that are short enough, and no part of another one; deletions and what nobody can read are told too."""
    right = Entry.loaded(b"body", 5).value
    values = {
        "right": (right, True),
        "damaged": (right[:-1] + b"x", False),
        "deleted": (b"0000000000000005X", True),
        "garbage": (b"garbage", False),
        "no version": (b"x" * 16 + right[16:], False),
        "of the size": (right + b"x", None),
        "long": (Entry.loaded(b"body" * 99, 5).value, None),
    }
    members = {name: f"users/s:{name}" for name in values}
    for name, (value, _) in values.items():
        wire.call("SET", store.cache.key(members[name]), value)

    seen = store.unsettled.observe([*members.values(), "users/s:none"], body_bytes=5)

    assert {name: intact for name, (_, intact) in values.items()} == {
        name: seen[member].intact for name, member in members.items()
    }
    assert None is seen["users/s:none"].intact
    assert {None} == {one.intact for one in store.unsettled.observe(members.values()).values()}
