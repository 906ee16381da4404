"""The step that looks at documents as readers see them."""

from __future__ import annotations

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
