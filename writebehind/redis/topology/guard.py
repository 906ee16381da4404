"""Commands as they are sent to a server among several, which carries out nothing that belongs on another one.

Before each step stands a look at the record of its server, `guard.lua`. A command that changes something is sent
as such a step. What only reads is sent as it is: `CHECK` after it says whether the record was another one by then.
"""

from __future__ import annotations

from importlib import resources

from writebehind.redis.connections import Command
from writebehind.redis.keys import SERVER
from writebehind.redis.scripts import digest, steps

#: Where what belongs to no partition is: the breaker, the workers, leases and so on.
HOME = "home"
#: What changes with each change of a server's record.
CHECK = ("HGET", SERVER, "epoch")

_FLAGS = "#!lua flags=allow-oom\n"
_GUARD = resources.files("writebehind.redis.topology").joinpath("guard.lua").read_text("utf-8")
_COMMAND = _GUARD + resources.files("writebehind.redis.topology").joinpath("command.lua").read_text("utf-8")
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


def reads(command: Command) -> bool:
    """Whether a command with a key changes nothing, so that its server need not refuse it."""
    return command[0] in _AS_THEY_ARE


def place_of(key: str) -> str:
    """The number of the partition that a key belongs to, as text; `HOME` for one of none."""
    if not key.startswith("wb:{"):
        return HOME
    place = key[4 : key.find("}", 4)]
    return place if place.isdecimal() else HOME


def frozen_key(place: str) -> str:
    """The key that is there while nothing may change in a place."""
    return f"wb:{{{place}}}:frozen"


def guarded(command: Command) -> Command:
    """A command as it is sent."""
    name = command[0]
    if name == "EVALSHA":
        return (name, _sha1(command[1]), *command[2:])
    if name == "EVAL" and command[2] and command[3] != SERVER:
        return (name, _with_guard(command[1]), *command[2:])
    if name in _AS_THEY_ARE:
        return command
    if name == "SCRIPT":
        return (name, *command[1:-1], _learnt(command[-1])) if command[1] == "LOAD" else command
    return ("EVAL", _COMMAND, 1, command[1], *command)


def _with_guard(source: str) -> str:
    """The text of a step that looks first whether what it touches is here."""
    if source.startswith(_FLAGS):
        return _FLAGS + _GUARD + source.removeprefix(_FLAGS)
    return _GUARD + source


def _sha1(of: str) -> str:
    if not _digests:
        _digests.update((one.sha1, digest(_with_guard(one.source))) for one in steps())
    return _digests.get(of, of)


def _learnt(source: str) -> str:
    """The text with the guard of a step that is being loaded, which may be none of ours."""
    guarded_source = _with_guard(source)
    _digests[digest(source)] = digest(guarded_source)
    return guarded_source


#: The names of steps with the guard, by those without.
_digests: dict[str, str] = {}
