"""One load for all threads of a process that want the same: single flight."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from writebehind.entry import Entry
from writebehind.errors import MongoUnavailableError


@dataclass(slots=True)
class Flight:
    """One load that several threads of this process wait for."""

    done: threading.Event = field(default_factory=threading.Event)
    entry: Entry | None = None
    error: MongoUnavailableError | None = None


class Flights:
    """The loads under way in one process, by key."""

    def __init__(self) -> None:
        """None is."""
        self._flights: dict[str, Flight] = {}
        self._lock = threading.Lock()

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
