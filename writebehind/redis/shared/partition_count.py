"""Into how many partitions Redis is divided: the record, which also says while the number is being changed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from writebehind.documents.raw_bson import VERSION_END
from writebehind.errors import ConfigurationError
from writebehind.plurals import counted
from writebehind.redis import keys
from writebehind.redis.keys import MOST_PARTITIONS, Named, partition_keys
from writebehind.redis.scripts import script
from writebehind.redis.shared.record import Record
from writebehind.redis.strays import whole
from writebehind.redis.wire import Wire

_MOVING = "moving"
_RECORD = re.compile(rb"(?:moving:([0-9]{1,4}):)?([0-9]{1,4})")

_DROP_EXPIRING = script("drop_expiring")


@dataclass(frozen=True, slots=True)
class Division:
    """The recorded number of partitions.

    Attributes:
        partitions: where documents are now.
        target: the number that is being changed to; `None` while nothing is changed.
    """

    partitions: int
    target: int | None = None

    @classmethod
    def parse(cls, record: bytes | None) -> Self | None:
        """Read what `record` made; `None` for nothing, or what other hands have written."""
        found = _RECORD.fullmatch(record or b"")
        if found is None:
            return None
        return cls(int(found[1]), int(found[2])) if found[1] else cls(int(found[2]))

    @property
    def record(self) -> str:
        """The record as it stands in Redis."""
        return str(self.partitions) if self.target is None else f"{_MOVING}:{self.partitions}:{self.target}"

    def fits(self, partitions: int) -> bool:
        """Whether documents may be read and written in so many partitions."""
        return self.target is None and self.partitions == partitions

    def check(self, partitions: int) -> None:
        """See that it fits.

        Raises:
            ConfigurationError: it does not; the message says what to do.
        """
        if self.target is not None:
            raise ConfigurationError(
                f"partitions: their number is being changed from {self.partitions} to {self.target}, or that was "
                f"interrupted: finish it with `writebehind repartition {self.target}`"
            )
        if self.partitions != partitions:
            raise ConfigurationError(
                f"partitions: this Redis holds data in {counted(self.partitions, 'partition')}, "
                f"not in {partitions}: "
                f"set WRITEBEHIND_PARTITIONS={self.partitions}"
            )


class PartitionCount(Record[Division]):
    """The record of one Redis, and what is done to change it. Safe to share between threads."""

    def __init__(self, wire: Wire) -> None:
        """Keep it on a server."""
        super().__init__(wire, keys.PARTITIONS, Division.parse)

    def astray(self, partitions: int, *, until: int = MOST_PARTITIONS) -> list[int]:
        """Partitions from a number on that hold something pending or dead, where nobody looks for it.

        A process that was stopped by force in the middle of a write, and goes on after Redis was divided anew, may
        leave something there. What a server has that does not answer while others do is not seen.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        beyond = range(partitions, until)
        answers = self._wire.calls_answered(
            [("EXISTS", of.pending, of.dead) for of in map(partition_keys, beyond)]
        )
        return [at for at, held in zip(beyond, answers, strict=True) if held]

    def pending_in(self, partitions: Sequence[int]) -> dict[int, int]:
        """The number of pending documents in partitions whose server answers, whoever looks into them.

        Raises:
            RedisUnavailableError: none does.
        """
        answers = self._wire.calls_answered([("ZCARD", partition_keys(one).pending) for one in partitions])
        return {at: count for at, count in zip(partitions, answers, strict=True) if count is not None}

    def latest_version(self) -> int:
        """The last version that any partition has issued. Raises as `recorded`."""
        clocks = self._wire.calls([("GET", partition_keys(one).clock) for one in range(MOST_PARTITIONS)])
        return max((one for one in map(whole, clocks) if one < VERSION_END), default=0)

    def remember_most(self, partitions: int) -> None:
        """Note that there were so many, if there were never more, as their counts stay. Raises as `recorded`."""
        ever = Record(self._wire, keys.MOST_EVER, Division.parse)
        known = ever.first(Division(partitions))
        if known.partitions < partitions:
            ever.change(known, Division(partitions))

    def forget_documents(self, names: Iterable[Named]) -> int:
        """Delete copies of what MongoDB has, and tokens, which expire anyway; how many. Raises as `recorded`."""
        calls = [((one.key,), ()) for one in names if one.family in keys.OF_DOCUMENTS]
        return sum(self._wire.run_many(_DROP_EXPIRING, calls))

    def forget_partition(self, partition: int, *, clock: bool) -> None:
        """Delete what a partition has without documents, and with `clock` its clock too. Raises as `recorded`."""
        of = partition_keys(partition)
        self._wire.call("DEL", *of.beside_documents, *([of.clock] if clock else []))
