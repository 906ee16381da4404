"""Commands as they are sent where a partition may be elsewhere by now: nothing is carried out that is not here.

Before each step stands a look at what its server says: on servers with names at its record, `guard.lua`; while the
number of partitions grows at whether the partition is divided, `divided.lua`. A command that changes something is
sent as such a step. What only reads is sent as it is: a look after it says whether that holds.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

from writebehind.redis.connections import Command
from writebehind.redis.keys import SERVER
from writebehind.redis.scripts import digest, steps

#: Where what belongs to no partition is: the breaker, the workers, leases and so on.
HOME = "home"
#: Words of the refusal of a server that has no record: it was emptied, or is not used yet.
UNRECORDED = "nothing is recorded here"
#: Those of one that does not have the partition; one that is frozen may stay, or come back at once.
ABSENT = "is not here"
#: What changes with each change of a server's record.
CHECK = ("HGET", SERVER, "epoch")

#: The line with the flags of a step begins so.
_FLAGS = "#!"
_NO_WRITES = "no-writes"
_FOLDER = resources.files("writebehind.redis.topology")
_COMMAND = _FOLDER.joinpath("command.lua").read_text("utf-8")
#: Commands that change nothing, and those that have no key.
_AS_THEY_ARE = frozenset(
    (
        *("GET", "MGET", "GETRANGE", "STRLEN", "EXISTS", "TYPE", "TTL", "PTTL", "DUMP"),
        *("HGET", "HMGET", "HGETALL", "HKEYS", "HLEN", "HEXISTS", "HSCAN", "HRANDFIELD"),
        *("SMEMBERS", "SCARD", "SISMEMBER", "SMISMEMBER", "SRANDMEMBER", "SSCAN", "LRANGE", "LLEN"),
        *("ZCARD", "ZCOUNT", "ZSCORE", "ZMSCORE", "ZRANGE", "ZRANGEBYSCORE", "ZRANDMEMBER", "ZSCAN"),
        *(
            "TIME",
            "INFO",
            "DBSIZE",
            "SCAN",
            "CONFIG",
            "COMMAND",
            "CLIENT",
            "WAIT",
            "WAITAOF",
            "FLUSHALL",
            "KEYS",
            "EVAL",
        ),
    )
)
#: Others that change nothing of what is there.
_CHANGE_NOTHING = frozenset(("ASKING", "HSTRLEN", "PING", "SCRIPT", "ZRANK"))


def reads(command: Command) -> bool:
    """Whether a command changes nothing, so that its server need not refuse it."""
    return command[0] in _AS_THEY_ARE and command[0] != "EVAL"


def changes(command: Command) -> bool:
    """Whether a command may change something that is there."""
    name = command[0]
    if name == "EVALSHA":
        return command[1] not in _reading()
    if name == "EVAL":
        return not _only_reads(command[1])
    return name not in _AS_THEY_ARE and name not in _CHANGE_NOTHING


def place_of(key: str) -> str:
    """The number of the partition that a key belongs to, as text; `HOME` for one of none."""
    if not key.startswith("wb:{"):
        return HOME
    place = key[4 : key.find("}", 4)]
    return place if place.isdecimal() else HOME


def frozen_key(place: str) -> str:
    """The key that is there while nothing may change in a place."""
    return f"wb:{{{place}}}:frozen"


class Guard:
    """A look before each step. Safe to share between threads."""

    def __init__(self, text: str) -> None:
        """Take the look: Lua that returns an error where the step must not be carried out."""
        self._text = text
        #: The names of steps with the look, by those without; and what these are.
        self._digests: dict[str, str] = {}
        self._sources: dict[str, str] = {}

    def command(self, command: Command) -> Command:
        """A command as it is sent."""
        name = command[0]
        if name == "EVALSHA":
            return (name, self._sha1(command[1]), *command[2:])
        if name == "EVAL" and command[2] and command[3] != SERVER:
            return (name, self._before(command[1]), *command[2:])
        if name in _AS_THEY_ARE:
            return command
        if name == "SCRIPT":
            return (name, *command[1:-1], self._learnt(command[-1])) if command[1] == "LOAD" else command
        return ("EVAL", self._text + _COMMAND, 1, command[1], *command)

    def whole(self, command: Command) -> Command:
        """A step of ours as it is sent to a server that does not know it, which knows it then."""
        self._sha1("")
        return ("EVAL", self._before(self._sources[command[1]]), *command[2:])

    def _before(self, source: str) -> str:
        """The text of a step with the look before it."""
        flags, _, rest = source.partition("\n")
        return f"{flags}\n{self._text}{rest}" if flags.startswith(_FLAGS) else self._text + source

    def _sha1(self, of: str) -> str:
        if not self._digests:
            self._sources.update((one.sha1, one.source) for one in steps())
            self._digests.update((one.sha1, self._digest(one.source)) for one in steps())
        return self._digests.get(of, of)

    def _learnt(self, source: str) -> str:
        """The text with the look of a step that is being loaded, which may be none of ours."""
        self._digests[digest(source)] = self._digest(source)
        return self._before(source)

    def _digest(self, source: str) -> str:
        """The name of a step with the look before it."""
        sha1 = digest(self._before(source))
        if _only_reads(source):
            _reading().add(sha1)
        return sha1


def _only_reads(source: str) -> bool:
    """Whether a step says of itself that it changes nothing."""
    flags, _, _ = source.partition("\n")
    return flags.startswith(_FLAGS) and _NO_WRITES in flags


@cache
def _reading() -> set[str]:
    """The names of steps that change nothing, also those of them with a look before them."""
    return {one.sha1 for one in steps() if _only_reads(one.source)}


@cache
def until_divided(target: int) -> Guard:
    """The look at whether a partition is divided already, or just being so, by a change to so many."""
    text = _FOLDER.joinpath("divided.lua").read_text("utf-8")
    return Guard(text.replace("TARGET", str(target)))


#: A command as it is sent to one of several servers with names.
guarded = Guard(_FOLDER.joinpath("guard.lua").read_text("utf-8")).command
