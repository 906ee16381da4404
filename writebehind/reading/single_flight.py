"""One load for all who want the same: the threads of a process by single flight, processes by a token in Redis."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TypeVar
from uuid import uuid4

from writebehind import forks
from writebehind.documents.entry import Entry
from writebehind.documents.large import TakesMuchError
from writebehind.errors import MongoUnavailableError
from writebehind.mongodb.waiting import waits

T = TypeVar("T")

#: Steps between two looks for what another reader loads, seconds: they double, with jitter.
WAIT_FROM_S, WAIT_TO_S = 0.002, 0.1
#: For how many lives of a right to load a reader waits. In one it would learn that the one who had it is gone only
#: when its own time is over, as would all others who wait: each of them would load.
LIVES = 2
#: A reader loads so often at most. What it has loaded is refused only where something else came in between; an
#: entry that came is there at the next look, unless Redis evicts all that it may.
MOST_LOADS = 4


class Turn(Enum):
    """Whose turn it is to load, by a look at Redis."""

    OURS = auto()
    ANOTHERS = auto()


def take_turns(
    look: Callable[[str, bool], T | Turn | None],
    load: Callable[[str], T | None],
    abandon: Callable[[str], None],
    *,
    until: float,
) -> T | None:
    """Wait for what another reader loads, or become the one who loads it; `None` where time or patience is over.

    Args:
        look: asks Redis, given a token and whether the caller has waited: what is there, whose turn it is, or
            `None` where what is there is of no use and it should be asked again.
        load: loads and fills, under that token; `None` where something came in between.
        abandon: gives the token back.
        until: the end of the caller's patience, by the monotonic clock.

    Raises:
        MongoUnavailableError: MongoDB does not answer, or too many wait for it; the token is given back.
        TakesMuchError: so it is where this thread may not read what it has loaded.
    """
    token, step, waited, loads = uuid4().hex, WAIT_FROM_S, False, 0
    with ExitStack() as place:
        while time.monotonic() < until and loads < MOST_LOADS:
            found = look(token, waited)
            if found is Turn.ANOTHERS:
                if not waited:
                    place.enter_context(waits())
                waited = True
                step = _pause(step)
            elif found is Turn.OURS:
                try:
                    with waits():
                        loaded = load(token)
                except (MongoUnavailableError, TakesMuchError):
                    abandon(token)
                    raise
                if loaded is not None:
                    return loaded
                loads += 1
                step = _pause(step)
            elif found is not None and not isinstance(found, Turn):
                return found
    return None


def _pause(step: float) -> float:
    """Wait for about a step, seconds; the next one, which is longer."""
    time.sleep(step * random.uniform(0.5, 1))  # noqa: S311 - no secret
    return min(step * 2, WAIT_TO_S)


@dataclass(slots=True)
class Flight:
    """One load that several threads of this process wait for.

    `failure` says why MongoDB did not answer; each who waits raises one of their own.
    """

    done: threading.Event = field(default_factory=threading.Event)
    entry: Entry | None = None
    failure: MongoUnavailableError | None = None


class Flights:
    """The loads under way in one process, by key."""

    def __init__(self) -> None:
        """None is."""
        self._lock = forks.lock()
        self.begin_anew()
        forks.begins_anew(self)

    def begin_anew(self) -> None:
        """Wait for no load of the parent process: its end would not be seen here."""
        self._flights: dict[str, Flight] = {}

    def board(self, key: str) -> tuple[Flight, bool]:
        """The flight for a key, and whether the caller leads it."""
        with self._lock:
            flight = self._flights.get(key)
            if flight is not None:
                return flight, False
            flight = self._flights[key] = Flight()
            return flight, True

    def leave(self, key: str, flight: Flight) -> None:
        """Nobody may join from here on: a reader who comes after a later write must not share this."""
        with self._lock:
            if self._flights.get(key) is flight:
                del self._flights[key]

    def land(self, key: str, flight: Flight) -> None:
        """It is over; those who wait go on."""
        self.leave(key, flight)
        flight.done.set()
