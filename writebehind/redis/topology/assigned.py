"""Records of servers with names, as they are made and compared: `Assigned`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from writebehind.errors import ConfigurationError, RedisUnavailableError
from writebehind.redis import keys
from writebehind.redis.scripts import script
from writebehind.redis.topology.record import (
    Assignment,
    ServerRecord,
    misfit,
    misfit_alone,
    unclaimed,
)
from writebehind.redis.wire import Wire

_RECORD_SERVER = script("record_server")


class Assigned:
    """The records of the servers of a URL. Safe to share between threads."""

    def __init__(self, wire: Wire) -> None:
        """Look at these servers."""
        self._wire = wire

    def records(self) -> dict[str, ServerRecord | None]:
        """The records of the servers that answer, by their names; `None` of one that has none.

        Raises:
            RedisUnavailableError: none answers.
        """
        answers = self._wire.on_each([("HGETALL", keys.SERVER)])
        return {
            name: ServerRecord.parse(one)
            for name, (one,) in answers.items()
            if not isinstance(one, RedisUnavailableError)
        }

    def check(self) -> None:
        """See that what is recorded fits the URL.

        Raises:
            ConfigurationError: it does not; the message says what to do.
            RedisUnavailableError: as `records`.
        """
        if wrong := misfit_of(self._wire.names, self.records()):
            raise ConfigurationError(wrong)

    def record(self, partitions: int) -> None:
        """`check`, and record what is not yet: on servers with names, where partitions are.

        Servers of which one holds an installation already are its own: there everything is, until it is moved.

        Raises: as `check`.
        """
        self.check()
        if not self._wire.names:
            return
        found = self.records()
        assignment = Assignment.of(self._wire.names, found)
        if not any(found.values()):
            assignment = Assignment(self._first(found), {})
        if set(found).issuperset(assignment.servers):  # else what is on those that are away is not known
            self._complete(assignment, found, partitions)
        self._wire.look_again()
        self.check()

    def _complete(self, assignment: Assignment, found: Mapping[str, ServerRecord | None], partitions: int) -> None:
        """Record what nobody has recorded yet."""
        missing = unclaimed(assignment, partitions)
        for name in sorted(assignment.servers):
            if found[name] is None or name in missing:
                arguments = (name, ",".join(assignment.servers), *missing.get(name, ()))
                self._wire.at(name, "EVAL", _RECORD_SERVER.source, 1, keys.SERVER, *arguments)

    def _first(self, answering: Mapping[str, object]) -> Sequence[str]:
        """The servers to use, while nothing is recorded."""
        names = self._wire.names
        if missing := [one for one in names if one not in answering]:
            raise RedisUnavailableError("a server does not answer, and nothing is recorded yet", inner=missing[0])
        used = self._wire.on_each([("EXISTS", keys.DATABASE, keys.PARTITIONS)])
        holders = [name for name, (count,) in used.items() if count]
        if len(holders) > 1:
            raise ConfigurationError(
                f"REDIS_URL: {' and '.join(holders)} each hold an installation of their own: name one of them, "
                "and others that are empty"
            )
        return holders or names


def misfit_of(names: Sequence[str], records: Mapping[str, ServerRecord | None]) -> str:
    """The reason why a process whose URL has such names, or none, must not use them; '' where it may."""
    if names:
        return misfit(names, records)
    return misfit_alone(next(iter(records.values()))) if len(records) == 1 else ""


def is_recorded(names: Sequence[str], records: Mapping[str, ServerRecord | None], partitions: int) -> bool:
    """Whether it is recorded where everything is, as far as the servers that answer can tell."""
    if not names or len(records) < len(names):
        return True
    assignment = Assignment.of(names, records)
    return all(records[one] for one in assignment.servers) and not unclaimed(assignment, partitions)
