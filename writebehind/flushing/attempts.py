"""The attempts at a document that MongoDB does not take, and does not say will never be taken.

An error that nobody has heard of may be about the document, or pass by itself. So such a document is tried again
with growing delays, and its neighbours do not wait for it. Only where MongoDB takes other writes is it about the
document, which becomes a dead letter. See docs/adr/0022-not-now-for-a-bounded-time.md.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from writebehind.mongodb.outcomes import Outcome, Result
from writebehind.redis.pending import POSTPONED_MS
from writebehind.redis.store import Store

#: Delay after the first attempt, ms; it doubles with each, up to `POSTPONED_MS`.
DELAY_MS = 200
#: Attempts, while MongoDB takes others, after which a document is given up: half a minute for an unknown error,
#: and ten where MongoDB is busy or others change the document.
ATTEMPTS = {Result.UNCLEAR: 12, Result.DISTURBED: 150}
#: Outcomes of writes that are to be tried again.
_LATE = frozenset({*ATTEMPTS, Result.MISPLACED, Result.UNREACHED})
#: Attempts after which it is given up although MongoDB takes nobody's writes: about a day.
MOST_ATTEMPTS = 20_000
#: So many documents that are refused together may be each at fault; of more it is rather MongoDB.
FEW = 10


def is_late(outcome: Outcome) -> bool:
    """Whether a write is to be tried again."""
    return outcome.result in _LATE


def others_are_taken(batch: Sequence[Outcome], takes_writes: Callable[[], bool]) -> bool:
    """Whether MongoDB takes other writes than those of a batch that are late.

    Args:
        batch: what became of all of the batch.
        takes_writes: whether MongoDB takes another write to the collection; asked only where it decides.

    Raises:
        MongoUnavailableError: it does not even answer.
    """
    return any(one.result is Result.PERSISTED for one in batch) or (len(batch) <= FEW and takes_writes())


def postpone(store: Store, partition: int, outcomes: Sequence[Outcome], *, others: bool) -> list[Outcome]:
    """Try documents of one partition again later.

    Args:
        store: where they are pending.
        partition: theirs.
        outcomes: of those that are late.
        others: whether MongoDB has taken other writes meanwhile. Only such attempts count against a document.

    Returns:
        The same outcomes, with the attempts so far: 0 of a version that is not pending any more. Those of
        documents that are given up are `REFUSED`.

    Raises:
        RedisUnavailableError: Redis does not answer.
    """
    versions = [(one.write.id.member, one.write.entry.version_digits) for one in outcomes]
    part = random.uniform(0.5, 1)  # noqa: S311 - no secret
    counts = store.pending.postpone(
        partition, versions, delay_ms=DELAY_MS, longest_ms=POSTPONED_MS, part=part, others=others
    )
    return [
        one._replace(
            attempts=tried,
            result=Result.REFUSED if _is_given_up(one.result, tried, blamed) else one.result,
        )
        for one, (tried, blamed) in zip(outcomes, counts, strict=True)
    ]


def _is_given_up(result: Result, tried: int, blamed: int) -> bool:
    """Whether a document has been tried often enough: never where the settings, or Redis, are at fault."""
    most = ATTEMPTS.get(result)
    return most is not None and (blamed >= most or tried >= MOST_ATTEMPTS)
