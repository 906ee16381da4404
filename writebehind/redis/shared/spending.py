"""Spending of clients, of their rates, in all processes together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from writebehind.redis.keys import SPENT
from writebehind.redis.scripts import script
from writebehind.redis.wire import Wire

#: So many clients are kept, those that have spent most.
MOST_CLIENTS: Final = 100_000
#: Who has all back is kept for so long, ms: what was spent before one told of it counts from then on.
KEPT_MS: Final = 10_000
#: Nobody has to wait longer to have all back, ms: an hour.
LONGEST_MS: Final = 3_600_000
#: Clients in one step.
_PORTION: Final = 500

_SPEND = script("spend")


class Spent(NamedTuple):
    """Spending of a client in one process since that told so last.

    Attributes:
        name: of the client.
        since_ms: how long ago that began, ms.
        cost_ms: how long it takes to have it back, ms.
    """

    name: str
    since_ms: float
    cost_ms: float


class Spending:
    """Spending in one installation. Safe to share between threads."""

    def __init__(self, wire: Wire) -> None:
        """Keep it on a server."""
        self._wire = wire

    def note(self, spent: Sequence[Spent]) -> Iterator[float]:
        """Add what clients have spent; of each in how many ms it has all back, also what other processes noted.

        Raises:
            RedisUnavailableError: Redis does not answer; some may have been noted.
        """
        for at in range(0, len(spent), _PORTION):
            portion = spent[at : at + _PORTION]
            said = [text for one in portion for text in (one.name, f"{one.since_ms:.3f}", f"{one.cost_ms:.3f}")]
            answer = self._wire.run(_SPEND, (SPENT,), (MOST_CLIENTS, KEPT_MS, LONGEST_MS, *said))
            yield from map(float, answer)
