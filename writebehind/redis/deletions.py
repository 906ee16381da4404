"""Deletions that MongoDB has, until they were audited."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from writebehind.documents.ids import named
from writebehind.redis.keys import Layout, partition_keys
from writebehind.redis.scripts import script
from writebehind.redis.strays import whole, without_strays
from writebehind.redis.wire import Wire
from writebehind.sequences import pairs

_FORGET_DELETIONS, _CARRY_OVER = script("forget_deletions"), script("carry_over")


@dataclass(frozen=True, slots=True)
class Scanned:
    """Deletions of a partition, some at a time.

    Attributes:
        after: the cursor of the next ones; '0' after the last.
        old: members whose deletion is old enough, with its version.
        undated: members of which nobody can tell how old it is.
    """

    after: str
    old: dict[str, int]
    undated: list[str]


class Deletions:
    """The settled deletions in one Redis. Safe to share between threads."""

    def __init__(self, wire: Wire, layout: Layout) -> None:
        """Bind them to a server."""
        self._wire = wire
        self._layout = layout

    def before(self, partition: int, ms: int, *, limit: int) -> dict[str, int]:
        """Members whose deletion MongoDB has had since before a time, with the version of the deletion."""
        of = partition_keys(partition)
        found = self._wire.call("ZRANGE", of.deleted_at, "-inf", ms, "BYSCORE", "LIMIT", 0, limit)
        # Not by the partition: while Redis is divided anew, some stand where they will belong.
        members = without_strays(self._wire, found, (of.deleted, of.deleted_at))
        versions = self._wire.call("ZMSCORE", of.deleted, *members) if members else []
        if senseless := [
            part
            for member, at in zip(members, versions, strict=True)
            if not _is_version(at)
            for part in (member, at or -1)
        ]:  # no deletion has such a version, so there is nothing that could be seen to
            self._wire.run(_FORGET_DELETIONS, (of.deleted, of.deleted_at), senseless)
        return {
            member.decode(): whole(at) for member, at in zip(members, versions, strict=True) if _is_version(at)
        }

    def scan(self, partition: int, cursor: str, *, now_ms: int, grace_ms: int, count: int) -> Scanned:
        """About `count` deletions from a cursor on, where MongoDB has had them for `grace_ms`."""
        of = partition_keys(partition)
        after, flat = self._wire.call("ZSCAN", of.deleted, cursor, "COUNT", count)
        found = [(member, version) for member, version in pairs(flat) if named(member) is not None]
        settled = self._wire.call("ZMSCORE", of.deleted_at, *(member for member, _ in found)) if found else []
        scanned = Scanned(after.decode(), {}, [])
        for (member, version), at_ms in zip(found, settled, strict=True):
            if at_ms is None or float(at_ms) > now_ms:
                scanned.undated.append(member.decode())
            elif float(at_ms) <= now_ms - grace_ms:
                scanned.old[member.decode()] = whole(version)
        return scanned

    def date(self, partition: int, members: Sequence[str], now_ms: int) -> None:
        """Let deletions count as settled now: of which Redis does not say when that was, or says a time to come.

        Other hands have made them so, and nobody would ever audit them.
        """
        if members:
            dated = [part for member in members for part in (now_ms, member)]
            self._wire.call("ZADD", partition_keys(partition).deleted_at, *dated)

    def versions(self, members: Sequence[str]) -> list[int | None]:
        """The versions of deletions that are yet to be audited; `None` for members that have none."""
        answers = self._wire.calls([("ZSCORE", self._layout.of(member).deleted, member) for member in members])
        return [None if one is None else whole(one) for one in answers]

    def forget(self, partition: int, deletions: Mapping[str, int]) -> int:
        """Forget deletions that were audited, unless the member was deleted again meanwhile; how many."""
        of = partition_keys(partition)
        flat = [part for pair in deletions.items() for part in pair]
        return int(self._wire.run(_FORGET_DELETIONS, (of.deleted, of.deleted_at), flat))

    def forget_all(self, partition: int) -> None:
        """Forget all deletions of a partition: they are of documents of another database."""
        of = partition_keys(partition)
        self._wire.call("DEL", of.deleted, of.deleted_at)

    def carry_over(self, partition: int, latest: int, deletions: Mapping[str, int]) -> None:
        """Take over what another division knew: the latest version that was issued, and deletions."""
        of = partition_keys(partition)
        flat = [part for pair in deletions.items() for part in pair]
        self._wire.run(_CARRY_OVER, (of.clock, of.deleted, of.deleted_at), (latest, *flat))


def _is_version(score: bytes | None) -> bool:
    """Whether a deletion can have such a version: a whole number above 0."""
    return score is not None and 0 < whole(score) == float(score)
