"""Confirmations by replicas of a server, before somebody goes on elsewhere by what it was sent: `Standing`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from redis.exceptions import ResponseError

from writebehind.redis.connections import Command, Connections
from writebehind.redis.info import parse_info
from writebehind.redis.keys import SERVER
from writebehind.redis.topology.record import MoveError

#: Replicas have so long to confirm what a frozen partition waits for, ms; and what nobody waits for.
SOON_MS, PATIENTLY_MS = 200, 500
#: So often the latter is waited for.
_TRIES = 10
#: A write that changes nothing: replicas confirm the last write of a connection.
_NAME_AGAIN = (
    "local name = redis.call('HGET', KEYS[1], 'name') return name and redis.call('HSET', KEYS[1], 'name', name)"
)


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

    def lacking(self, server: Connections) -> MoveError:
        """The error about a server whose replicas do not confirm."""
        return MoveError(
            f"replicas of server {server.name} do not confirm what it is sent, {self.replicas} of which have to: "
            "see that they run and keep up, and start this again"
        )


def see_keeping_up(server: Connections, standing: Standing) -> None:
    """See that replicas of a server with a name have soon what it was sent so far, or wait for that for a while.

    Raises:
        MoveError: they do not.
        RedisUnavailableError: the server does not answer.
    """
    for _ in range(_TRIES):
        if standing.is_confirmed(asked(server, [("EVAL", _NAME_AGAIN, 1, SERVER), *standing.wait(PATIENTLY_MS)])):
            return
    raise standing.lacking(server)


def asked(server: Connections, commands: Sequence[Command]) -> list[Any]:
    """The answers of a server, none of which is a refusal.

    Raises:
        MoveError: the server refuses one of them.
        RedisUnavailableError: it does not answer.
    """
    answers = server.exchange(commands)
    for one in answers:
        if isinstance(one, ResponseError):
            raise MoveError(f"server {server.name} refuses it: {one}") from one
    return answers
