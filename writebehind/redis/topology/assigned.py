"""Records of servers with names, as they are made and compared: `Assigned`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from redis.exceptions import ResponseError

from writebehind.errors import ConfigurationError, RedisUnavailableError
from writebehind.redis import keys
from writebehind.redis.refusals import is_mistyped
from writebehind.redis.scripts import script
from writebehind.redis.topology.record import (
    NOBODY,
    Assignment,
    ServerRecord,
    misfit,
    misfit_alone,
    unclaimed,
)
from writebehind.redis.wire import Wire

_RECORD_SERVER, _EXPECT, _OWN = script("record_server"), script("expect_partition"), script("own_server")
#: So often it is tried to record what is not yet, where others change records meanwhile.
_MOST_TRIES = 10


class Assigned:
    """The records of the servers of a URL. Safe to share between threads."""

    def __init__(self, wire: Wire, database: str = "") -> None:
        """Look at these servers, for who uses a MongoDB database; '' where that does not matter."""
        self._wire = wire
        self._database = database

    def records(self) -> dict[str, ServerRecord | None]:
        """The records of the servers that answer, by their names; `None` of one that has none.

        Raises:
            RedisUnavailableError: none answers.
        """
        return parsed(self.answers())

    def answers(self) -> dict[str, Any]:
        """The answer of each server about its record, for `parsed`; errors too. Raises as `records`."""
        return {name: one for name, (one,) in self._wire.on_each([("HGETALL", keys.SERVER)]).items()}

    def check(self) -> None:
        """See that what is recorded fits the URL.

        Raises:
            ConfigurationError: it does not; the message says what to do.
            RedisUnavailableError: as `records`.
        """
        if wrong := misfit_of(self._wire.names, self.records(), self._database):
            raise ConfigurationError(wrong)

    def record(self, partitions: int) -> bool:
        """`check`, and record what is not yet: on servers with names, where partitions are.

        Servers of which one holds an installation already are its own: there everything is, until it is moved.

        Returns:
            Whether all is recorded: not while a server is away that may have some of it.

        Raises: as `check`.
        """
        self.check()
        if not self._wire.names:
            return True
        for _ in range(_MOST_TRIES):
            found = self._at_one_moment()
            assignment = Assignment.of(self._wire.names, found)
            if not any(found.values()):
                assignment = Assignment(self._first(found), {})
            is_known = set(found).issuperset(
                assignment.servers
            )  # else what is on those that are away is not known
            if not is_known or self._complete(assignment, found, partitions):
                break
        self._wire.look_again()
        self.check()
        return is_known

    def own(self, *, anew: bool = False) -> None:
        """Record on each server that takes it whose it is, where it has a record, and that says nothing of it.

        With `anew` also where it says something else, and on all of them. Raises as `records`.
        """
        for name, one in self.records().items() if self._wire.names else ():
            if one is not None and (anew or not one.database):
                said = (name, self._database, "1" if anew else "")
                try:
                    self._wire.at(name, "EVAL", _OWN.source, 1, keys.SERVER, *said)
                except RedisUnavailableError:  # tried again with the next sample
                    if anew:
                        raise

    def _at_one_moment(self) -> dict[str, ServerRecord | None]:
        """`records`, as they were all at the same time: each of them is another one after each change."""
        found = self.records()
        while (again := self.records()) != found:
            found = again
        return found

    def _complete(self, assignment: Assignment, found: Mapping[str, ServerRecord | None], partitions: int) -> bool:
        """Record what nobody has recorded yet; whether no record has changed meanwhile."""
        missing = unclaimed(assignment, partitions)
        if self._fence(assignment, [place for some in missing.values() for place in some]):
            return False
        for name in sorted(assignment.servers):
            record = found[name]
            if record is None or name in missing:
                seen = record.epoch if record else ""
                places = [part for one in missing.get(name, {}).items() for part in one]
                arguments = (name, seen, ",".join(assignment.servers), *places)
                if not self._wire.at(name, "EVAL", _RECORD_SERVER.source, 1, keys.SERVER, *arguments):
                    return False
        return True

    def _fence(self, assignment: Assignment, lost: Sequence[str]) -> bool:
        """Let nobody go on copying what was lost where it came from; whether somebody did."""
        copied = [
            (name, place)
            for name, coming in assignment.coming.items()
            for place in lost
            if coming.get(place, NOBODY) != NOBODY
        ]
        for name, place in copied:
            self._wire.at(name, "EVAL", _EXPECT.source, 1, keys.SERVER, place, NOBODY, "")
        return bool(copied)

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


def parsed(answers: Mapping[str, Any]) -> dict[str, ServerRecord | None]:
    """Records by the servers' names, of answers to HGETALL; `None` where there is none, or other hands changed it.

    A server that refuses to say it has one for all that is known, as while somebody's script keeps it busy.
    """
    return {
        name: ServerRecord.parse(one)
        for name, one in answers.items()
        if not isinstance(one, Exception) or (isinstance(one, ResponseError) and is_mistyped(one))
    }


def misfit_of(names: Sequence[str], records: Mapping[str, ServerRecord | None], database: str) -> str:
    """The reason why a process whose URL has such names, or none, must not use them; '' where it may."""
    if names:
        return misfit(names, records, database)
    return misfit_alone(next(iter(records.values()))) if len(records) == 1 else ""


def is_recorded(names: Sequence[str], records: Mapping[str, ServerRecord | None], partitions: int) -> bool:
    """Whether it is recorded where everything is, and whose, as far as the servers that answer can tell."""
    if not names or len(records) < len(names):
        return True
    assignment = Assignment.of(names, records)
    used = [records[one] for one in assignment.servers]
    return all(one and one.database for one in used) and not unclaimed(assignment, partitions)
