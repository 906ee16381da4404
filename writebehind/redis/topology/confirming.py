"""Confirmations by replicas of a server, before somebody goes on elsewhere by what it was sent: `Standing`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from redis.exceptions import OutOfMemoryError, ResponseError

from writebehind.redis.connections import Command, Connections
from writebehind.redis.info import parse_info
from writebehind.redis.keys import SERVER
from writebehind.redis.topology.record import MoveError

#: Replicas have so long to confirm what a frozen partition waits for, ms; and what nobody waits for.
SOON_MS, PATIENTLY_MS = 200, 500
#: So often the latter is waited for.
_TRIES = 10
_NAME_AGAIN = """#!lua flags=allow-oom
local name = redis.call('HGET', KEYS[1], 'name')
return name and redis.call('HSET', KEYS[1], 'name', name)
"""
_VALUE_AGAIN = """#!lua flags=allow-oom
local value = redis.call('GET', KEYS[1])
return value and redis.call('SET', KEYS[1], value)
"""
#: A write to a server with a name that changes nothing.
NAME_AGAIN: Command = ("EVAL", _NAME_AGAIN, 1, SERVER)


@dataclass(frozen=True, slots=True)
class Standing:
    """The facts that a server told of itself.

    Attributes:
        term: its replication id: another one after each failover, and after each start.
        replicas: how many have to confirm: all that are connected, and one at least where some were lately, as one
            of them may take its place; and as many as the installation promises.
        writes_file: whether it writes an append-only file.
    """

    term: str
    replicas: int
    writes_file: bool

    @classmethod
    def of(cls, server: Connections, least: int = 0) -> Self:
        """Ask a server, of which so many replicas have to confirm at least if it has any. Raises as `asked`."""
        (info,) = asked(server, [("INFO",)])
        facts = parse_info(info)
        connected, had_some = int(facts.get("connected_slaves", 0)), facts.get("repl_backlog_active") == "1"
        replicas = max(connected, least, 1) if connected or had_some else 0
        return cls(facts.get("master_replid", ""), replicas, facts.get("aof_enabled") == "1")

    def wait(self, within_ms: int) -> Sequence[Command]:
        """The command that waits for the replicas to have what was sent before it."""
        return (("WAIT", self.replicas, within_ms),) if self.replicas else ()

    def is_confirmed(self, answers: Sequence[Any]) -> bool:
        """Whether they have it, by answers of which the last is that of `wait`."""
        return not self.replicas or answers[-1] >= self.replicas

    def see_same(self, server: Connections, info: bytes) -> None:
        """See by its INFO that a server is who it was, and has what it was sent since: a replica may lack it.

        Raises:
            MoveError: another one has its place.
        """
        if parse_info(info).get("master_replid") != self.term:
            raise MoveError(f"{_called(server)} has failed over meanwhile, or was restarted: start this again")

    def lacking(self, server: Connections) -> MoveError:
        """The error about a server whose replicas do not confirm."""
        return MoveError(
            f"replicas of {_called(server)} do not confirm what it is sent, {self.replicas} of which have to: "
            "see that they run and keep up, and start this again"
        )


def see_recorded(server: Connections, key: str, standing: Standing | None = None) -> None:
    """See that replicas of a server have what stands at a key. Raises as `see_keeping_up`."""
    see_keeping_up(server, standing or Standing.of(server), ("EVAL", _VALUE_AGAIN, 1, key))


def see_keeping_up(server: Connections, standing: Standing, again: Command = NAME_AGAIN) -> None:
    """See that replicas of a server have soon what it was sent so far, or wait for that for a while.

    They confirm the last write of a connection, so `again` writes once more what was there.

    Raises:
        MoveError: they do not.
        RedisUnavailableError: the server does not answer.
    """
    for _ in range(_TRIES):
        if standing.is_confirmed(asked(server, [again, *standing.wait(PATIENTLY_MS)])):
            return
    raise standing.lacking(server)


def asked(server: Connections, commands: Sequence[Command]) -> list[Any]:
    """The answers of a server, none of which is a refusal.

    Raises:
        MoveError: the server refuses one of them, or has no memory for it.
        RedisUnavailableError: it does not answer.
    """
    answers = server.exchange(commands)
    for one in answers:
        if isinstance(one, ResponseError) and (isinstance(one, OutOfMemoryError) or "OOM " in str(one)):
            raise MoveError(
                f"{_called(server)} has no memory left: raise its maxmemory, or let it have less, and start this "
                "again"
            ) from one
        if isinstance(one, ResponseError):
            raise MoveError(f"{_called(server)} refuses it: {one}") from one
    return answers


def _called(server: Connections) -> str:
    return f"server {server.name}" if server.name else "Redis"
