"""Pause flushing, as for an upgrade of MongoDB, and resume it: meanwhile writes are taken up to the caps."""

from __future__ import annotations

import math
from dataclasses import dataclass

from writebehind import strict
from writebehind.errors import InvalidArgumentError
from writebehind.pipeline import Pipeline
from writebehind.redis.shared.pauses import ALL, Paused

#: A pause with an end is no longer than this, seconds: 30 days.
LONGEST_S = 30 * 86_400.0


@dataclass(frozen=True, slots=True)
class Resumed:
    """Outcome of resuming.

    Attributes:
        ended: the pauses that it ended.
        paused: those that are in force all the same.
    """

    ended: Paused
    paused: Paused


def pause(pipeline: Pipeline, collection: str | None = None, *, for_s: float | None = None) -> Paused:
    """Flush nothing from now on: each process knows it within two seconds, and ends the batch that it writes.

    What is paused already gets the new end.

    Args:
        pipeline: of the installation.
        collection: whose documents; by default all.
        for_s: after so many seconds flushing goes on by itself; by default it waits for `resume`.

    Returns:
        The pauses in force.

    Raises:
        InvalidArgumentError: it is no time from a second to 30 days.
        UnknownCollectionError: there is no such collection.
        RedisUnavailableError: Redis does not answer, or belongs to another MongoDB database.
    """
    if for_s is not None and not (math.isfinite(for_s) and 1 <= for_s <= LONGEST_S):
        raise InvalidArgumentError("a pause lasts from one second to 30 days")
    name = _named(pipeline, collection)
    pipeline.store.check_owner()
    pipeline.store.pauses.begin(name, for_ms=None if for_s is None else round(for_s * 1000))
    return pipeline.store.pauses.recorded()


def resume(pipeline: Pipeline, collection: str | None = None) -> Resumed:
    """Let flushing go on, and ask workers for it at once; where nothing is paused, nothing changes.

    Args:
        pipeline: of the installation.
        collection: whose documents; by default all pauses end.

    Raises:
        UnknownCollectionError: there is no such collection, and none of this name is paused.
        RedisUnavailableError: Redis does not answer, or belongs to another MongoDB database.
    """
    pipeline.store.check_owner()
    before = pipeline.store.pauses.recorded()
    if collection is None:
        ended = before
    else:
        ended = Paused(tuple(one for one in before if one.collection == strict.text("collection", collection)))
        if not ended:
            _named(pipeline, collection)
    pipeline.store.pauses.end(one.collection for one in ended)
    if ended:
        pipeline.maintenance.hand_over()
    return Resumed(ended, pipeline.store.pauses.recorded())


def _named(pipeline: Pipeline, collection: str | None) -> str:
    return ALL if collection is None else pipeline.collection(collection).name
