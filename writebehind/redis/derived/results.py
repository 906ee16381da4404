"""Results of cached queries, and what has changed in MongoDB since they were loaded."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum

from writebehind.redis import keys
from writebehind.redis.keys import Layout
from writebehind.redis.scripts import script
from writebehind.redis.strays import whole
from writebehind.redis.topology.dividing import steadily
from writebehind.redis.wire import Wire
from writebehind.sequences import pairs

#: Documents that are looked at besides those that MongoDB has found: of those that are pending in a partition, and
#: of those that have changed since.
MOST_PENDING, MOST_CHANGED = 250, 500

_LIST_UNSETTLED = script("list_unsettled")
_GET_OR_LEASE_RESULT, _FILL_DERIVED, _ABANDON, _RECORD_CHANGES = (
    script("get_or_lease_result"),
    script("fill_derived"),
    script("abandon"),
    script("record_changes"),
)


class LeasedResult(Enum):
    """The answer to a `get_or_lease`."""

    FOUND = b"found"
    """There is another result by now."""
    LOAD = b"load"
    """The caller has the right to load it."""
    WAIT = b"wait"
    """Another reader loads it."""


@dataclass(frozen=True, slots=True)
class Look:
    """Redis's data for a query at about one moment: data read first may be old, but never too new for the rest.

    Attributes:
        pending: members of the collection that MongoDB may not have as they are.
        dead: names of dead letters of the collection, where those were asked for.
        partial: whether more members are pending.
        changed: members that have changed in MongoDB, with the number of their last change.
        number: of the last change; `epoch` that of the last one before which results are to be loaded anew, and
            `before` that of the last one before which they cannot be served at all.
        value: what was found; `None` for nothing.
        ttl_ms: how long it stays there.
    """

    pending: frozenset[str]
    dead: frozenset[str]
    partial: bool
    changed: Mapping[str, int]
    number: int
    epoch: int
    before: int
    value: bytes | None
    ttl_ms: int


class Results:
    """The results in one Redis. Safe to share between threads."""

    def __init__(self, wire: Wire, layout: Layout) -> None:
        """Bind them to a server."""
        self._wire = wire
        self._layout = layout

    def record_changes(self, collection: str, members: Collection[str], *, interval_ms: int) -> None:
        """Note that MongoDB has changed; results are to be loaded anew once in `interval_ms` at most."""
        self._wire.run(_RECORD_CHANGES, keys.changes(collection), (interval_ms, 0, *members))

    def outdate(self, collection: str, *, interval_ms: int) -> None:
        """Let no result of a collection be served any more, as nobody knows what has changed."""
        self._wire.run(_RECORD_CHANGES, keys.changes(collection), (interval_ms, 1))

    @steadily
    def look(self, collection: str, name: str, *, dead: bool) -> Look:
        """Redis's data for a query, in one round trip; dead letters too if they are wanted.

        Its order matters: a document that is no longer pending has been noted as changed.
        """
        changed, state = keys.changes(collection)
        key, _ = self._keys(name)
        arguments = (collection, MOST_PENDING, int(dead))
        unsettled, (flat, numbers, value, ttl_ms) = self._wire.look_before(
            _LIST_UNSETTLED,
            [((of.pending, of.dead, of.dead_counts), arguments) for of in self._layout.all()],
            [
                ("ZRANGE", changed, 0, MOST_CHANGED - 1, "REV", "WITHSCORES"),
                ("HMGET", state, "number", "epoch", "before"),
                ("GET", key),
                ("PTTL", key),
            ],
        )
        prefix = f"{collection}/".encode()
        pending, letters = (
            frozenset(
                one.decode(errors="replace") for members in part for one in members if one.startswith(prefix)
            )
            for part in zip(*unsettled, strict=True)
        )
        number, epoch, before = map(whole, numbers)
        return Look(
            pending,
            letters,
            any(len(members) >= MOST_PENDING for members, _ in unsettled),
            {member.decode(errors="replace"): whole(at) for member, at in pairs(flat)},
            *(number, epoch, before),
            value,
            ttl_ms,
        )

    def get_or_lease(self, name: str, token: str, *, life_ms: int, outdated: bytes | None) -> LeasedResult:
        """Become the one reader that may load a result, if it still is the one that is out of date."""
        arguments = (token, life_ms, b"-" if outdated is None else outdated)
        return LeasedResult(self._wire.run(_GET_OR_LEASE_RESULT, self._keys(name), arguments)[0])

    def fill(self, name: str, token: str, value: bytes, *, ttl_ms: int) -> None:
        """Keep a result, unless the right to load it is lost.

        Raises:
            RedisFullError: there is no room for it.
            RedisUnavailableError: Redis does not answer.
        """
        self._wire.run(_FILL_DERIVED, self._keys(name), (token, value, ttl_ms))

    def abandon(self, name: str, token: str) -> None:
        """Give the right to load a result back."""
        self._wire.run(_ABANDON, (self._keys(name)[1],), (token,))

    def _keys(self, name: str) -> tuple[str, str]:
        of = self._layout.of(name)
        return of.query(name), of.query_load(name)
