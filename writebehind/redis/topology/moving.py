"""Moves of partitions between servers with names, while they are read and written: `Move`.

A partition is copied while it is used: first all of it, then what has changed, which its server tells of by
broadcast invalidations, again and again. When little is left, the partition is frozen for a moment: its server
refuses steps about it, and who needs it tries again. The last of it is copied, and the other server gets a mark
that it has all of it. When its replicas have that, the first one lets go of it, if it has been frozen all the
while; and when the replicas of that one know so, it arrives: see `arriving`. Each may fail over at any moment. Who
dies in between leaves it where it was, or on its way to a server that has all of it, which whoever needs it then
tells so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any
from uuid import uuid4

from writebehind.errors import RedisUnavailableError, WritebehindError
from writebehind.redis.connections import Connections
from writebehind.redis.keys import SERVER
from writebehind.redis.scripts import Script, script
from writebehind.redis.topology.arriving import (
    NAMELESS,
    arrive,
    drop_copies,
    is_of,
    nameless,
    prefix_of,
    scanned,
    settle,
)
from writebehind.redis.topology.confirming import SOON_MS, Standing, asked, see_keeping_up
from writebehind.redis.topology.guard import frozen_key
from writebehind.redis.topology.invalidations import Invalidations
from writebehind.redis.topology.record import Left, MoveError
from writebehind.redis.topology.room import see_room

_EXPECT, _RECEIVE, _COMPLETE = script("expect_partition"), script("receive_keys"), script("complete_partition")
_FREEZE, _LEAVE, _STAY = script("freeze_partition"), script("leave_server"), script("stay_on_server")

#: A partition is frozen for at most so long, ms; then everything goes on where it was.
FREEZE_MS = 700
#: With so few keys left to copy, it is frozen; with more only after so many rounds.
FEW, MOST_ROUNDS = 200, 20
#: It is frozen so often before the move is given up.
MOST_FREEZES = 10
#: Keys that are copied in one go; and bytes.
COPIED, BYTES = 100, 1 << 20
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
        least: int = 0,
        most_memory: float = 1.0,
    ) -> None:
        """Prepare it.

        Args:
            place: what is moved.
            source: where it is; without guard, as is `target`.
            target: where it goes.
            moves: how often it has moved then.
            report: takes how many keys were copied, each time that some were; it may raise, to end the move.
            least: how many replicas have to confirm at least, where a server has any.
            most_memory: the part of its maxmemory from which a server refuses writes.
        """
        self._place = place
        self._source, self._target = source, target
        self._moves = moves
        self._report = report
        self._least = least
        self._most_memory = most_memory
        self._token = uuid4().hex
        self._prefix = prefix_of(place)
        self._frozen = frozen_key(place)

    def run(self) -> float:
        """Move it; how long it was frozen, seconds. What it leaves behind is there still: see `drop_left`.

        If that fails, the copies are taken out of where it was to go.

        Raises:
            MoveError: it changes too fast, replicas do not confirm it, the other server has no room for it, or one
                refuses what the move needs.
            RedisUnavailableError: a server does not answer.
        """
        standing = Standing.of(self._target, self._least)
        see_keeping_up(self._source, Standing.of(self._source, self._least))
        self._expect("")
        try:
            return self._moved(standing)
        except WritebehindError:
            self._give_up()
            raise

    def _moved(self, standing: Standing) -> float:
        """Copy it, and let it go. Raises as `run`."""
        if not drop_copies(self._target, self._place, self._token, is_last=False):
            raise MoveError(f"somebody else moves partition {self._place}")
        see_room(self._source, self._target, self._place, self._scan(self._source), self._most_memory)
        with Invalidations(self._source, self._prefix) as changed:
            for keys in self._scan(self._source):
                self._copy(keys)
            for _ in range(MOST_FREEZES):
                self._catch_up(changed)
                see_keeping_up(self._target, standing)
                if seconds := self._finish(changed, standing):
                    return seconds
        raise MoveError(
            f"partition {self._place} changes too fast to be moved, or replicas lag: try again with less load"
        )

    def _expect(self, mark: str) -> None:
        """Let the target expect it; once more, where that has a mark of this move."""
        answer = _run(self._target, _EXPECT, (SERVER,), (self._place, self._token, mark))
        if answer == NAMELESS:
            raise nameless(self._target, self._place)
        if not answer:
            raise MoveError(
                f"server {self._target.name} has partition {self._place} already, or somebody else moves it"
            )

    def _give_up(self) -> None:
        """Leave no copies in the target, unless all of it is there. If that fails, the next mover does it."""
        try:
            drop_copies(self._target, self._place, self._token, is_last=True)
        except WritebehindError:
            return

    def _catch_up(self, changed: Invalidations) -> None:
        """Copy what has changed, until little does so meanwhile."""
        for _ in range(MOST_ROUNDS):
            keys = self._ours(changed.taken())
            self._copy(keys)
            if len(keys) <= FEW:
                return

    def _finish(self, changed: Invalidations, standing: Standing) -> float:
        """Freeze it, copy the last of it, and let it go; how long it was frozen, seconds, 0 if that failed."""
        began = time.monotonic()
        if not _run(self._source, _FREEZE, (SERVER, self._frozen), (self._place, self._token, FREEZE_MS)):
            raise MoveError(
                f"partition {self._place} is no more on server {self._source.name}, or somebody moves it"
            )
        left = Left.of(self._target.name, self._moves, f"{uuid4().hex}+{self._least}@{standing.term}")
        try:
            keys = changed.until(self._frozen.encode(), TOLD_WITHIN_S)
            if keys is None:
                return 0.0
            self._copy(self._ours(keys))
            self._report(0)
            is_whole = self._complete(left.mark, standing)
            has_left = self._leave(left) if is_whole else False
            if has_left and arrive(self._target, self._place, left):
                return time.monotonic() - began
        finally:
            self._thaw()
        if has_left is False:
            self._expect(left.mark)
            return 0.0
        settle(self._source, self._target, self._place, left, self._least)
        return time.monotonic() - began

    def _complete(self, mark: str, standing: Standing) -> bool:
        """Note that the target has all of it, and expects it from this mover still; whether replicas have that."""
        step = ("EVAL", _COMPLETE.source, 1, SERVER, self._place, self._token, mark)
        is_noted, info, *waited = asked(self._target, [step, ("INFO", "replication"), *standing.wait(SOON_MS)])
        if not is_noted:
            raise MoveError(f"somebody else moves partition {self._place}")
        standing.see_same(self._target, info)
        return standing.is_confirmed(waited)

    def _leave(self, left: Left) -> bool | None:
        """Let the source let go of it, and see that replicas have that; `None` where that is not certain."""
        standing = Standing.of(self._source, self._least)
        step = (
            *("EVAL", _LEAVE.source, 2, SERVER, self._frozen),
            *(self._place, self._token, left.text, FREEZE_MS),
        )
        answers = asked(self._source, [step, *standing.wait(SOON_MS)])
        if not answers[0]:
            return False
        if standing.is_confirmed(answers):
            return True
        stays = _run(self._source, _STAY, (SERVER, self._frozen), (self._place, self._token, self._moves - 1))
        return False if stays else None

    def _thaw(self) -> None:
        """Let everything go on where it is. If that fails, it does so in a moment."""
        try:
            self._source.exchange([("EVAL", THAW, 1, self._frozen, self._token)])
        except RedisUnavailableError:
            return

    def _ours(self, keys: Iterable[bytes]) -> list[bytes]:
        return [key for key in keys if key != self._frozen.encode() and is_of(key, self._place)]

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


def life_of(left_ms: int) -> int:
    """The life of a copy, as RESTORE takes it, by what PTTL says: that rounds down, and here 0 is no end."""
    return 0 if left_ms == ENDLESS else max(left_ms, 1)


def _run(server: Connections, step: Script, keys: Sequence[str | bytes], arguments: Sequence[Any]) -> int:
    """Run a step about the record of a server. Raises as `asked`."""
    answer: int
    (answer,) = asked(server, [("EVAL", step.source, len(keys), *keys, *arguments)])
    return answer


#: What PTTL says of a key that is no more, and of one without an end.
GONE, ENDLESS = -2, -1
#: Let things change again in what was frozen by a token.
THAW = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end return 1"
