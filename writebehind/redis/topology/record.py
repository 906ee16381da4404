"""Records of servers with names: the name of each, the others, and what is on it. Each server has its own.

A record is a hash: `name`; `database`, the MongoDB database that it belongs to; `servers`, the names of all that
are used; `epoch`, which changes with it; and for each partition that is here, and for `home`, how often it has
moved: so that of two servers that claim to have it, the last is right. `left:<partition>` names the server that
one has gone to, how often it has moved then, and the mark by which it arrives: that server has it as
`whole:<partition>` once it has all of it. Once it is certain to have arrived, the mark is `over`: what is left are
copies that are only to be dropped. `expected:<partition>` is the token of whoever may copy it to there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from writebehind.errors import WritebehindError
from writebehind.plurals import counted
from writebehind.redis.topology.guard import HOME
from writebehind.redis.topology.rendezvous import owner

_LEFT, _EXPECTED, _WHOLE = "left:", "expected:", "whole:"
#: The token by which nobody copies anything.
NOBODY = "nobody"
_OVER = "over"


class MoveError(WritebehindError):
    """A partition could not be moved. It is where it was."""


@dataclass(frozen=True, slots=True)
class Left:
    """A place that has left a server.

    Attributes:
        server: the name of that which has all of it.
        moves: how often it has moved then.
        mark: by which it arrives there.
        text: all three, as recorded.
    """

    server: str
    moves: int
    mark: str
    text: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a value of a record; one of a former release has no mark, and arrives nowhere."""
        name, _, rest = text.partition("/")
        moves, _, mark = rest.partition("/")
        return cls(name, int(moves) if moves.isdecimal() else 0, mark, text)

    @classmethod
    def of(cls, server: str, moves: int, mark: str) -> Self:
        """One that is to be recorded."""
        return cls(server, moves, mark, f"{server}/{moves}/{mark}")

    @property
    def least(self) -> int:
        """The number of replicas that have to confirm at least, where a server has any, as its mover says."""
        _, _, rest = self.mark.partition("+")
        number, _, _ = rest.partition("@")
        return int(number) if number.isdecimal() else 0

    @property
    def is_over(self) -> bool:
        """Whether it is elsewhere for certain: it never comes back by the copies that are left."""
        return self.mark == _OVER

    def over(self) -> Self:
        """The same where that is so."""
        return self.of(self.server, self.moves, _OVER)


@dataclass(frozen=True, slots=True)
class ServerRecord:
    """The record of one server.

    Attributes:
        name: its own.
        servers: the names of all that are used; the first of them has what belongs to no partition.
        epoch: another one after each change.
        here: how often each partition that is here has moved; `home` among them.
        left: where others have gone to.
        coming: those that are copied to here, or were by who has died, and by which token: what is here of
            them may be old. By `NOBODY`, nothing comes any more; '' where all of it was here once.
        database: the MongoDB database that it belongs to; '' where that is not recorded yet.
    """

    name: str
    servers: tuple[str, ...]
    epoch: bytes
    here: Mapping[str, int] = field(default_factory=dict)
    left: Mapping[str, Left] = field(default_factory=dict)
    coming: Mapping[str, str] = field(default_factory=dict)
    database: str = ""

    @classmethod
    def parse(cls, answer: Any) -> Self | None:
        """Read the answer to HGETALL; `None` for nothing, or what other hands have written."""
        if not isinstance(answer, list):
            return None
        flat = [one.decode(errors="replace") for one in answer]
        fields = dict(zip(flat[::2], flat[1::2], strict=True))
        if not fields.get("name") or not fields.get("servers"):
            return None
        return cls(
            fields["name"],
            tuple(fields["servers"].split(",")),
            fields.get("epoch", "").encode(),
            {one: int(value) for one, value in fields.items() if _is_place(one) and value.isdecimal()},
            {one.removeprefix(_LEFT): Left.parse(value) for one, value in fields.items() if one.startswith(_LEFT)},
            {
                one.partition(":")[2]: value if one.startswith(_EXPECTED) else ""
                for one, value in fields.items()
                if one.startswith((_EXPECTED, _WHOLE))
            },
            fields.get("database", ""),
        )


Records = Mapping[str, ServerRecord | None]


@dataclass(frozen=True, slots=True)
class Assignment:
    """The places of partitions, as the records of the servers say together.

    Attributes:
        servers: the names of all servers that are used.
        claims: the server that each place is on, of those that are recorded.
        gone: places that nobody has yet, as they have just left where they were: the server that each was on, and
            how it has left.
        copies: by places that are elsewhere, the servers that have copies of them left, and how each has left.
        coming: by servers, the places that were copied there and may still be, and by which token.
    """

    servers: Sequence[str]
    claims: Mapping[str, str]
    gone: Mapping[str, tuple[str, Left]] = field(default_factory=dict)
    copies: Mapping[str, Mapping[str, Left]] = field(default_factory=dict)
    coming: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @classmethod
    def of(cls, names: Sequence[str], records: Records) -> Self:
        """Put the records together; `names` are those of a URL, where nothing is recorded yet."""
        found = [(name, one) for name, one in records.items() if one is not None]
        servers = list(dict.fromkeys(server for _, one in found for server in one.servers)) or list(names)
        claims: dict[str, tuple[int, str]] = {}
        for name, one in found:
            for place, moves in one.here.items():
                claims[place] = max(claims.get(place, (-1, "")), (moves, name))
        gone: dict[str, tuple[str, Left]] = {}
        for name, one in found:
            for place, left in one.left.items():
                last = gone[place][1].moves if place in gone else claims.get(place, (-1, ""))[0]
                if left.moves > last and not left.is_over:  # else it has arrived, or is there since
                    gone[place] = name, left
        copies: dict[str, dict[str, Left]] = {}
        for name, one in found:
            for place, left in one.left.items():
                if gone.get(place) != (name, left):
                    copies.setdefault(place, {})[name] = left
        here = {place: name for place, (_, name) in claims.items() if place not in gone}
        return cls(servers, here, gone, copies, {name: one.coming for name, one in found})

    def server_of(self, place: str) -> str:
        """The name of the server that a place is on, or belongs to while nobody has it."""
        if place in self.gone:
            return self.gone[place][1].server
        return self.claims.get(place) or self.home_of(place)

    def home_of(self, place: str) -> str:
        """The name of the server that a place belongs to which nobody has: one without old copies of it."""
        old = {*self.copies.get(place, ()), *(name for name, some in self.coming.items() if place in some)}
        return fair(place, [one for one in self.servers if one not in old] or self.servers)


def moved_on(name: str, records: Records) -> dict[str, Left]:
    """Places that a server says that it has, and that have moved since: where each has gone to."""
    own = records[name]
    if own is None:
        return {}
    others = [(other, one) for other, one in records.items() if one is not None and other != name]
    found = {}
    for place, moves in own.here.items():
        there = [Left.of(other, one.here[place], "") for other, one in others if place in one.here]
        leaving = [one.left[place] for _, one in others if place in one.left]
        last = max((*there, *leaving), key=lambda one: one.moves, default=None)
        if last and last.moves > moves and last.server != name:
            found[place] = last
    return found


def fair(place: str, servers: Sequence[str]) -> str:
    """The server that a place belongs to, of those that are used."""
    return servers[0] if place == HOME else owner(place, servers)


def places(partitions: int) -> list[str]:
    """All places of an installation with so many partitions."""
    return [HOME, *map(str, range(partitions))]


def unclaimed(assignment: Assignment, partitions: int) -> dict[str, dict[str, int]]:
    """Places that nobody has, by the servers that they belong to: how often each has moved, as far as is known."""
    found: dict[str, dict[str, int]] = {}
    for place in places(partitions):
        if place not in assignment.claims and place not in assignment.gone:
            left = assignment.copies.get(place, {}).values()
            moves = max((one.moves + 1 for one in left), default=0)  # so that no copy is newer than it
            found.setdefault(assignment.home_of(place), {})[place] = moves
    return found


def left_over(assignment: Assignment) -> str:
    """Copies of what has moved that nobody has dropped, in words; '' where there are none."""
    counts = Counter(name for of in assignment.copies.values() for name in of)
    told = [f"server {name} has copies of {counted(count, 'partition')}" for name, count in sorted(counts.items())]
    return f"{', '.join(told)} that moved to other servers" if told else ""


def foreign(name: str, database: str, ours: str) -> str:
    """The words for a server that belongs to another installation than a process does."""
    return f"server {name} belongs to database {database!r}, not to {ours!r}"


def misfit(names: Sequence[str], records: Records, database: str = "") -> str:
    """The reason why a process with a list of such names must not use these servers; '' where it may.

    `database` is its own, '' where that does not matter. Where all say another one, that is no matter of the list.
    """
    owners = {one.database for one in records.values() if one is not None and one.database}
    for name, one in records.items():
        if database and len(owners) > 1 and one is not None and one.database not in {"", database}:
            return f"REDIS_URL: {foreign(name, one.database, database)}: name the servers of this installation"
        if one is not None and one.name != name:
            return f"REDIS_URL: server {name} calls itself {one.name}: give each server the name that it had"
    known = {server for one in records.values() if one is not None for server in one.servers}
    if missing := sorted(known.difference(names)):
        without = " ".join(f"--without {one}" for one in missing)
        return (
            f"REDIS_URL: it lacks {_listed(missing)} of the servers {_listed(sorted(known))}: add what is "
            f"missing; to do without, run `writebehind rebalance {without}` while REDIS_URL still has all of "
            f"them, and take {_listed(missing)} out of there after that"
        )
    return ""


def misfit_alone(record: ServerRecord | None) -> str:
    """`misfit` of a process whose URL names this server alone, and without a name."""
    if record is None or record.servers == (record.name,):
        return ""
    return (
        f"REDIS_URL: this is server {record.name} of {_listed(record.servers)}: name all of them, as in "
        + ";".join(f"{one}=redis://host" for one in record.servers)
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def _is_place(one: str) -> bool:
    return one == HOME or one.isdecimal()
