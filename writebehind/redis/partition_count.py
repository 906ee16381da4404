"""Into how many partitions Redis is divided: the record, which also says while the number is being changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from writebehind.errors import ConfigurationError
from writebehind.redis import keys
from writebehind.redis.keys import MOST_PARTITIONS, partition_keys
from writebehind.redis.wire import Wire

_MOVING = "moving"


@dataclass(frozen=True, slots=True)
class Division:
    """What the record says.

    Attributes:
        partitions: where documents are now.
        target: the number that is being changed to; `None` while nothing is changed.
    """

    partitions: int
    target: int | None = None

    @classmethod
    def parse(cls, record: bytes) -> Self:
        """Read what `record` made."""
        *moving, last = record.decode().split(":")
        return cls(int(moving[1]), int(last)) if moving else cls(int(last))

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
                f"partitions: this Redis holds data in {self.partitions} partitions, not in {partitions}: "
                f"set WRITEBEHIND_PARTITIONS={self.partitions}"
            )


def recorded(wire: Wire) -> Division | None:
    """The record; `None` in a Redis that nobody has used yet.

    Raises:
        RedisUnavailableError: Redis does not answer.
    """
    record = wire.call("GET", keys.PARTITIONS)
    return None if record is None else Division.parse(record)


def astray(wire: Wire, partitions: int) -> list[int]:
    """Partitions beyond the recorded number that hold something pending or dead, where nobody looks for it.

    A process that was stopped by force in the middle of a write, and goes on after Redis was divided anew, may
    leave something there.

    Raises:
        RedisUnavailableError: Redis does not answer.
    """
    beyond = range(partitions, MOST_PARTITIONS)
    commands = [("EXISTS", of.pending, of.dead) for of in map(partition_keys, beyond)]
    return [at for at, held in zip(beyond, wire.calls(commands) if commands else [], strict=True) if held]
