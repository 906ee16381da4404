"""All that Redis knows of one document, at a glance: for a person who looks, and not for the protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from writebehind.documents.entry import BODY_AT
from writebehind.redis.keys import Layout
from writebehind.redis.strays import whole
from writebehind.redis.wire import Wire
from writebehind.sequences import pairs

#: So far below 0 a member stands that is set aside, as its collection is paused.
ASIDE_MS = 10**13


@dataclass(frozen=True, slots=True)
class Held:
    """A token, and how long its holder has it, ms; b'' and -2 for nobody."""

    token: bytes
    left_ms: int


@dataclass(frozen=True, slots=True)
class Inspected:
    """The traces of a document in its partition.

    Attributes:
        now_ms: the clock of Redis.
        value: the beginning of the entry; b'' where there is none.
        size: of the whole entry, bytes.
        ttl_ms: of it; -1 without one, -2 without an entry.
        due_ms: when it may be flushed; `None` where it is not pending.
        place: how many members of the partition are due before it.
        pending: how many are pending in the partition.
        sent: what MongoDB was given, as `lua/record_sending.lua` has noted it.
        loading: who may fill the entry.
        flushing: the flusher that owns the partition.
        scheduled: the flush task on its way, or the flusher at work.
        claims: names of the unique values that it claims, with the version.
        deleted: the version of its settled deletion that is not audited yet; 0 for none.
        crowded: whether so much is kept of it that no new write is taken.
    """

    now_ms: int
    value: bytes
    size: int
    ttl_ms: int
    due_ms: float | None
    place: int | None
    pending: int
    sent: bytes
    loading: Held
    flushing: Held
    scheduled: Held
    claims: Sequence[tuple[str, int]]
    deleted: int
    crowded: bool


class Inspection:
    """Looks at documents in one Redis. Safe to share between threads."""

    def __init__(self, wire: Wire, layout: Layout) -> None:
        """Bind it to a server."""
        self._wire = wire
        self._layout = layout

    def look(self, member: str, *, most_bytes: int) -> Inspected:
        """All of it in one round trip, and of the body so many bytes at most.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        of = self._layout.of(member)
        entry, now_ms = of.entry(member), self._wire.now_ms(of.pending)
        value, size, ttl_ms, due, place, pending, sent, claims, deleted, crowded, *held = self._wire.calls(
            (
                ("GETRANGE", entry, 0, BODY_AT + most_bytes - 1),
                ("STRLEN", entry),
                ("PTTL", entry),
                ("ZSCORE", of.pending, member),
                ("ZRANK", of.pending, member),
                ("ZCARD", of.pending),
                ("HGET", of.sent, member),
                ("ZRANGE", of.claimed(member), 0, -1, "WITHSCORES"),
                ("ZSCORE", of.deleted, member),
                ("SISMEMBER", of.crowded, member),
                *(
                    command
                    for key in (of.load(member), of.lease, of.scheduled)
                    for command in (("GET", key), ("PTTL", key))
                ),
            )
        )
        loading, flushing, scheduled = (Held(token or b"", left_ms) for token, left_ms in pairs(held))
        return Inspected(
            now_ms,
            value or b"",
            size,
            ttl_ms,
            None if due is None else _due_ms(float(due)),
            place,
            pending,
            sent or b"",
            loading,
            flushing,
            scheduled,
            [(name.decode(errors="replace"), whole(version)) for name, version in pairs(claims)],
            whole(deleted),
            bool(crowded),
        )


def _due_ms(score: float) -> float:
    """The time at which a member is due that has this score, ms: see `lua/include/due_of.lua`."""
    return score + ASIDE_MS if score < 0 else score
