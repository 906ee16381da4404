"""Moves of partitions between servers with names, while they are read and written: `Move`.

A partition is copied while it is used: first all of it, then what has changed, which its server tells of by
broadcast invalidations, again and again. When little is left, the partition is frozen for a moment: its server
refuses steps about it, and who needs it tries again. The last of it is copied, its server lets go of it, if it has
been frozen all the while, and the other one takes it. Who dies in between leaves it where it was, or on its way to
a server that has all of it, which whoever needs it then tells so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any
from uuid import uuid4

from redis.exceptions import ResponseError

from writebehind.errors import RedisUnavailableError
from writebehind.redis.connections import Command, Connections
from writebehind.redis.keys import SERVER
from writebehind.redis.scripts import Script, script
from writebehind.redis.topology.guard import HOME, frozen_key, place_of
from writebehind.redis.topology.invalidations import Invalidations
from writebehind.redis.topology.record import MoveError

_EXPECT, _RECEIVE, _ARRIVE = script("expect_partition"), script("receive_keys"), script("arrive_on_server")
_FREEZE, _LEAVE, _DROP_LEFT = script("freeze_partition"), script("leave_server"), script("drop_left")

#: A partition is frozen for at most so long, ms; then everything goes on where it was.
FREEZE_MS = 700
#: With so few keys left to copy, it is frozen; with more only after so many rounds.
FEW, MOST_ROUNDS = 200, 20
#: It is frozen so often before the move is given up.
MOST_FREEZES = 10
#: Keys that are looked for, and that are copied, in one go; and bytes.
SCANNED, COPIED, BYTES = 1_000, 100, 1 << 20
#: The last changes are waited for so long, seconds.
TOLD_WITHIN_S = FREEZE_MS / 1000


class Move:
    """The move of one partition, or of `HOME`, from one server to another."""

    def __init__(
        self,
        place: str,
        source: Connections,
        target: Connections,
        *,
        moves: int,
        report: Callable[[int], object],
    ) -> None:
        """Prepare it.

        Args:
            place: what is moved.
            source: where it is; without guard, as is `target`.
            target: where it goes.
            moves: how often it has moved then.
            report: takes how many keys were copied, each time that some were; it may raise, to end the move.
        """
        self._place = place
        self._source, self._target = source, target
        self._moves = moves
        self._report = report
        self._token = uuid4().hex
        self._prefix = "wb:" if place == HOME else f"wb:{{{place}}}:"
        self._frozen = frozen_key(place)

    def run(self) -> float:
        """Move it; how long it was frozen, seconds.

        Raises:
            MoveError: it changes too fast, or a server refuses what the move needs.
            RedisUnavailableError: a server does not answer.
        """
        if not _run(self._target, _EXPECT, (SERVER,), (self._place, self._token)):
            raise MoveError(f"server {self._target.name} has partition {self._place} already")
        for keys in self._scan(self._target):
            self._receive([(key, 0, b"") for key in keys])
        with Invalidations(self._source, self._prefix) as changed:
            for keys in self._scan(self._source):
                self._copy(keys)
            for _ in range(MOST_FREEZES):
                self._catch_up(changed)
                if seconds := self._finish(changed):
                    break
            else:
                raise MoveError(f"partition {self._place} changes too fast to be moved: try again with less load")
        arrive(self._target, self._place, self._moves)
        drop_left(self._source, self._place)
        return seconds

    def _catch_up(self, changed: Invalidations) -> None:
        """Copy what has changed, until little does so meanwhile."""
        for _ in range(MOST_ROUNDS):
            keys = self._ours(changed.taken())
            self._copy(keys)
            if len(keys) <= FEW:
                return

    def _finish(self, changed: Invalidations) -> float:
        """Freeze it, copy the last of it, and let go of it; how long it was frozen, seconds, 0 if that failed."""
        began = time.monotonic()
        if not _run(self._source, _FREEZE, (SERVER, self._frozen), (self._place, self._token, FREEZE_MS)):
            raise MoveError(
                f"partition {self._place} is no more on server {self._source.name}, or somebody moves it"
            )
        try:
            keys = changed.until(self._frozen.encode(), TOLD_WITHIN_S)
            if keys is not None:
                self._copy(self._ours(keys))
                gone_to = f"{self._target.name}/{self._moves}"
                if _run(self._source, _LEAVE, (SERVER, self._frozen), (self._place, self._token, gone_to)):
                    return time.monotonic() - began
        except BaseException:
            self._thaw()
            raise
        self._thaw()
        return 0.0

    def _thaw(self) -> None:
        """Let everything go on where it is. If that fails, it does so in a moment."""
        try:
            self._source.exchange([("EVAL", THAW, 1, self._frozen, self._token)])
        except RedisUnavailableError:
            return

    def _ours(self, keys: Iterable[bytes]) -> list[bytes]:
        return [key for key in keys if key != self._frozen.encode() and _is_of(key, self._place)]

    def _scan(self, server: Connections) -> Iterator[list[bytes]]:
        """Keys of the partition on a server, a few at a time."""
        for keys in scanned(server, self._prefix):
            yield self._ours(keys)

    def _copy(self, keys: Sequence[bytes]) -> None:
        for at in range(0, len(keys), COPIED):
            some = keys[at : at + COPIED]
            answers = asked(self._source, [one for key in some for one in (("DUMP", key), ("PTTL", key))])
            copies: list[tuple[bytes, int, bytes]] = []
            size = 0
            for key, value, life in zip(some, answers[::2], answers[1::2], strict=True):
                is_gone = value is None or life == GONE
                copies.append((key, 0 if is_gone else life_of(life), b"" if is_gone else value))
                size += len(copies[-1][2])
                if size > BYTES:
                    self._receive(copies)
                    copies, size = [], 0
            self._receive(copies)
            self._report(len(some))

    def _receive(self, copies: Sequence[tuple[bytes, int, bytes]]) -> None:
        if not copies:
            return
        keys: list[str | bytes] = [SERVER, *(key for key, _, _ in copies)]
        values = [part for _, life, value in copies for part in (life, value)]
        if not _run(self._target, _RECEIVE, keys, (self._place, self._token, *values)):
            raise MoveError(f"somebody else moves partition {self._place}")


def scanned(server: Connections, prefix: str) -> Iterator[list[bytes]]:
    """Keys of a server that begin with a prefix, a few at a time; some may come twice."""
    cursor = b"0"
    while True:
        (answer,) = asked(server, [("SCAN", cursor, "MATCH", f"{prefix}*", "COUNT", SCANNED)])
        cursor, found = answer
        yield found
        if cursor == b"0":
            return


def arrive(target: Connections, place: str, moves: int) -> None:
    """Let a place be on a server that has all of it. Raises as `Move.run`."""
    _run(target, _ARRIVE, (SERVER,), (place, moves))


def drop_left(source: Connections, place: str) -> None:
    """Drop what a place that has gone has left behind. Raises as `Move.run`."""
    for keys in scanned(source, "wb:" if place == HOME else f"wb:{{{place}}}:"):
        some = [key for key in keys if _is_of(key, place)]
        for at in range(0, len(some), COPIED):
            _run(source, _DROP_LEFT, (SERVER, *some[at : at + COPIED]), (place, ""))
    _run(source, _DROP_LEFT, (SERVER,), (place, "1"))


def life_of(left_ms: int) -> int:
    """The life of a copy, as RESTORE takes it, by what PTTL says: that rounds down, and here 0 is no end."""
    return 0 if left_ms == ENDLESS else max(left_ms, 1)


def _is_of(key: bytes, place: str) -> bool:
    return place_of(key.decode(errors="replace")) == place and key != SERVER.encode()


def _run(server: Connections, step: Script, keys: Sequence[str | bytes], arguments: Sequence[Any]) -> bool:
    """Run a step about the record of a server."""
    (answer,) = asked(server, [("EVAL", step.source, len(keys), *keys, *arguments)])
    return bool(answer)


def asked(server: Connections, commands: Sequence[Command]) -> list[Any]:
    """The answers of a server, none of which is a refusal. Raises as `Move.run`."""
    answers = server.exchange(commands)
    for one in answers:
        if isinstance(one, ResponseError):
            raise MoveError(f"server {server.name} refuses it: {one}") from one
    return answers


#: What PTTL says of a key that is no more, and of one without an end.
GONE, ENDLESS = -2, -1
#: Let things change again in what was frozen by a token.
THAW = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end return 1"
