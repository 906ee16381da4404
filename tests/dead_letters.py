"""Dead letters of a store alone: MongoDB has nothing of any document."""

from __future__ import annotations

from collections.abc import Callable

from writebehind.flushing.dead_letters import DeadLetters
from writebehind.redis.pending import Hint
from writebehind.redis.store import Store
from writebehind.settings.collection import CollectionSettings


class _Empty:
    def versions(self, _ids: object) -> dict[str, int]:
        return {}


def letters_of(store: Store, hints: Callable[[Hint], None] = lambda _: None) -> DeadLetters:
    """The dead letters; what they ask for goes nowhere unless it is given."""
    return DeadLetters(store, hints, _Empty(), _Empty(), lambda _: CollectionSettings())
