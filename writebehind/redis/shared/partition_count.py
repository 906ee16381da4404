"""Into how many partitions Redis is divided: the record, which also says while the number is being changed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Self

from writebehind.documents.raw_bson import VERSION_END
from writebehind.errors import ConfigurationError
from writebehind.plurals import counted
from writebehind.redis import keys
from writebehind.redis.keys import MOST_PARTITIONS, Layout, Named, partition_keys
from writebehind.redis.scripts import script
from writebehind.redis.shared.record import Record
from writebehind.redis.strays import whole
from writebehind.redis.wire import Wire

#: So many partitions cannot become more while they are used: the record has a digit too few to say so.
MOST_ONLINE = 1000
_MOVING = "moving"
_RECORD = re.compile(rb"(?:moving:([0-9]{1,4}):)?([0-9]{1,4})")

_DROP_EXPIRING = script("drop_expiring")


@dataclass(frozen=True, slots=True)
class Division:
    """The recorded number of partitions.

    Attributes:
        partitions: where documents are now.
        target: the number that is being changed to; `None` while nothing is changed.
        online: whether documents are read and written meanwhile. Releases that cannot do so take the record, in
            which the number of now has four digits then, for that of a change that nobody works beside.
    """

    partitions: int
    target: int | None = None
    online: bool = False

    @classmethod
    def parse(cls, record: bytes | None) -> Self | None:
        """Read what `record` made; `None` for nothing, or what other hands have written."""
        found = _RECORD.fullmatch(record or b"")
        if found is None:
            return None
        if not found[1]:
            return cls(int(found[2]))
        return cls(int(found[1]), int(found[2]), online=found[1].startswith(b"0"))

    @property
    def record(self) -> str:
        """The record as it stands in Redis."""
        if self.target is None:
            return str(self.partitions)
        now = f"{self.partitions:04d}" if self.online else str(self.partitions)
        return f"{_MOVING}:{now}:{self.target}"

    def fits(self, partitions: int) -> bool:
        """Whether documents may be read and written in so many partitions."""
        return self.target is None and self.partitions == partitions

    def check(self, partitions: int) -> None:
        """See that it fits.

        Raises:
            ConfigurationError: it does not; the message says what to do.
        """
        if self.online and partitions in {self.partitions, self.target}:
            return
        if self.online:
            raise ConfigurationError(
                f"partitions: their number is being changed from {self.partitions} to {self.target}, not to "
                f"{partitions}: set WRITEBEHIND_PARTITIONS={self.target}"
            )
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

    def __init__(self, wire: Wire, layout: Layout) -> None:
        """Keep it on a server, for a layout that can `follow` it."""
        super().__init__(wire, keys.PARTITIONS, Division.parse)
        self._layout = layout

    def follow(self) -> None:
        """Let the layout be what the record says by now: of a change that goes on, or went, beside this process.

        Of any other one `Division.check` tells. Raises as `recorded`.
        """
        found, view = self.recorded(), self._layout.view
        if found is None:
            return
        if found.online and found.target is not None:
            numbers = {found.partitions, found.target}
            if view.partitions in numbers or self._have_become(view.partitions, numbers):
                self._wire.divide(self._layout, found.partitions, found.target)
        elif found.fits(view.partitions) and not view.target:
            return
        elif found.target is None and (
            found.partitions in {view.target, view.partitions}
            or self._have_become(view.partitions, {found.partitions})
        ):
            self._wire.divided(self._layout, found.partitions)

    def _have_become(self, partitions: int, numbers: AbstractSet[int]) -> bool:
        """Whether so many partitions have each been divided, while they were used, into one of these numbers."""
        marks = self._wire.calls_answered([("GET", partition_keys(one).divided) for one in range(partitions)])
        return all(whole(one) in numbers for one in marks)

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
