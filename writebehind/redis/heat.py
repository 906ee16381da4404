"""Reads of documents, added up in Redis, and which documents were warmed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from writebehind.documents.ids import named
from writebehind.redis.connections import Command
from writebehind.redis.keys import Layout, partition_keys
from writebehind.redis.scripts import Script, script
from writebehind.redis.strays import whole
from writebehind.redis.wire import Call, Wire
from writebehind.sequences import pairs, slices

#: Members in one step: Lua unpacks at most some thousands, and other clients wait meanwhile.
SLICE = 1_000

_ADD_HEAT, _DECAY_HEAT = script("add_heat"), script("decay_heat")


@dataclass(frozen=True, slots=True)
class Hottest:
    """The hottest members of a partition with their heat; since when it is counted, ms, or `None`."""

    heat: Sequence[tuple[str, float]]
    since_ms: int | None


class Heat:
    """The heat of documents in one Redis. Safe to share between threads."""

    def __init__(self, wire: Wire, layout: Layout) -> None:
        """Bind it to a server."""
        self._wire = wire
        self._layout = layout

    def add(self, reads: Mapping[str, float], *, most: int) -> int:
        """Add reads of members, in one round trip.

        Args:
            reads: how many, by member.
            most: members that are kept in each partition.

        Returns:
            How many of the members were warmed and had not been read since.
        """
        calls: list[Call] = []
        for partition, members in self._layout.grouped(reads).items():
            of = partition_keys(partition)
            for some in slices(members, SLICE):
                flat = [part for member in some for part in (member, reads[member])]
                calls.append(((of.hot, of.heat, of.warmed), (most, *flat)))
        return self._sum(_ADD_HEAT, calls)

    def decay(self, *, half_life_ms: int, most: int, room: int, least: float) -> int:
        """Let documents cool down, in one round trip; how many are kept.

        Args:
            half_life_ms: after which a read counts half.
            most: members that are kept in each partition.
            room: entries for which a Redis that is full has room in each partition.
            least: heat below which a member is forgotten.
        """
        arguments = (half_life_ms, most, room, least)
        return self._sum(_DECAY_HEAT, [((of.hot, of.heat), arguments) for of in self._layout.all()])

    def hottest(self, limit: int) -> list[Hottest]:
        """The hottest members of each partition, in one round trip."""
        commands: list[Command] = []
        for of in self._layout.all():
            commands += [("ZRANGE", of.hot, 0, limit - 1, "REV", "WITHSCORES"), ("HGET", of.heat, "since")]
        answers = iter(self._wire.calls_answered(commands))
        return [
            Hottest(
                [
                    (member.decode(), float(heat))
                    for member, heat in pairs(flat or ())
                    if named(member) is not None
                ],
                whole(since) or None,
            )
            for flat, since in zip(answers, answers, strict=True)
        ]

    def forget(self, members: Sequence[str]) -> None:
        """Count members as never read, in one round trip."""
        by_partition = self._layout.grouped(members).items()
        self._wire.calls([("ZREM", partition_keys(partition).hot, *some) for partition, some in by_partition])

    def warmed(self, members: Sequence[str], *, most: int, remembered_s: int) -> None:
        """Note members that were warmed: `most` of each partition, for so long."""
        clocks: dict[str, int] = {}
        commands: list[Command] = []
        for partition, some in self._layout.grouped(members).items():
            warmed = partition_keys(partition).warmed
            server = self._wire.server_of(warmed)
            now_ms = clocks[server] = clocks.get(server) or self._wire.now_ms(warmed)
            commands += [
                ("ZADD", warmed, *(part for member in some for part in (now_ms, member))),
                ("ZREMRANGEBYSCORE", warmed, "-inf", now_ms - remembered_s * 1000),
                ("ZREMRANGEBYRANK", warmed, 0, -(most + 1)),
                ("EXPIRE", warmed, remembered_s),
            ]
        self._wire.calls(commands)

    def _sum(self, step: Script, calls: Sequence[Call]) -> int:
        """The sum of the answers, of the servers that answer."""
        return sum(one or 0 for one in self._wire.run_many_answered(step, calls))
