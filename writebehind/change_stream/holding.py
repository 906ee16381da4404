"""Changes that wait, as a server of Redis is away that has their documents; those of other servers do not."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from writebehind.change_stream.verdicts import OutsideChange
from writebehind.errors import RedisUnavailableError
from writebehind.outage_log import OutageLog
from writebehind.redis.reach import is_away, unreached
from writebehind.redis.store import Store
from writebehind.sequences import grouped

log = logging.getLogger(__name__)

#: Most changes that wait, and most bytes of them.
MOST_HELD, MOST_BYTES = 10_000, 16 << 20


class Holding:
    """Applies changes, of each partition in their order. Used by one thread."""

    def __init__(self, store: Store, apply: Callable[[Sequence[OutsideChange]], None]) -> None:
        """Apply them so; it may be done twice with a change."""
        self._store = store
        self._apply = apply
        self._held: list[OutsideChange] = []
        self._outages = OutageLog(log, "batch", "batches")

    def __len__(self) -> int:
        """The number of changes that wait."""
        return len(self._held)

    def forget(self) -> None:
        """Let none wait: the stream begins again before them."""
        self._held = []

    def apply_held(self) -> None:
        """Apply changes that wait. Raises as `apply`."""
        held, self._held = self._held, []
        self.apply(held)

    def apply(self, changes: Sequence[OutsideChange]) -> None:
        """Apply changes, or hold them.

        Raises:
            RedisUnavailableError: Redis does not answer, or too many wait for a server that does not.
            UnavailableError: MongoDB does not answer.
        """
        held = {self._store.partition_of(one.id.member) for one in self._held}
        waits = grouped(changes, lambda one: self._store.partition_of(one.id.member) in held)
        self._held += waits.get(True, [])
        if ready := waits.get(False, []):
            self._try(ready)
        size = sum(len(one.after.body) for one in self._held if one.after is not None)
        if len(self._held) > MOST_HELD or size > MOST_BYTES:
            raise RedisUnavailableError("too many changes wait for a server of Redis that does not answer")

    def _try(self, ready: Sequence[OutsideChange]) -> None:
        try:
            self._apply(ready)
        except RedisUnavailableError as error:
            if not (is_away(error) and self._store.has_several):
                raise
            self._store.clocks_ms()  # raises where none answers
            by_server = grouped(ready, lambda one: self._store.server_of_member(one.id.member))
            for some, why in unreached([*by_server.values()], self._apply_each):
                self._held += some
                self._outages.note("changes that wait", f"changes wait for a server of Redis: {why}")

    def _apply_each(self, of_servers: Sequence[Sequence[OutsideChange]]) -> None:
        for some in of_servers:
            self._apply(some)
