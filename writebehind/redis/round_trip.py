"""Round trips to a server that decide something by themselves, in two halves: what is sent, and what it means.

Whoever has threads sends commands and waits. An event loop sends those of many callers at once, and waits for
none: see `lanes`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from writebehind.errors import RedisUnavailableError
from writebehind.redis.connections import Command, Connections

T = TypeVar("T")


class UndecidedError(Exception):
    """The answers do not decide it: what is left to do takes a thread.

    Attributes:
        rest: does what is left, and returns the result or raises what it fails with. `None` where nothing was done
            that must not be done again: then all is done anew.
    """

    def __init__(self, rest: Callable[[], Any] | None = None) -> None:
        """Leave this to a thread."""
        super().__init__("what is left to do takes a thread")
        self.rest = rest


@dataclass(frozen=True, slots=True)
class RoundTrip(Generic[T]):
    """Commands to one server, and what their answers mean.

    Attributes:
        server: where they are sent.
        commands: what is sent.
        conclude: makes the result of the answers; waits for nobody. Raises `UndecidedError`, or what the whole
            would fail with. It is called once the answers are there, also if nobody waits for the result any more.
        lost: fails in the way of the whole where the server does not answer, and it is not known what was carried
            out; it may wait. `None` where all may be done anew, as it only reads.
        epoch: what the server's answer to its `check` must be for what was read to hold; `None` where it holds
            anyway.
    """

    server: Connections
    commands: Sequence[Command]
    conclude: Callable[[list[Any]], T]
    lost: Callable[[RedisUnavailableError], Any] | None = None
    epoch: bytes | None = None
