"""Totals since the first start: what atomic steps have counted in each partition, and what has no partition."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from writebehind import plurals
from writebehind.errors import MistypedKeyError
from writebehind.redis import keys
from writebehind.redis.keys import MOST_PARTITIONS, partition_keys
from writebehind.redis.reach import known
from writebehind.redis.strays import MOST_COUNT, whole
from writebehind.redis.wire import Wire
from writebehind.sequences import pairs

log = logging.getLogger(__name__)

#: Bounds of the time from a write's acknowledgement until it is known to be in MongoDB, seconds.
AGE_BOUNDS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 1_800.0, 3_600.0)
_AGES: Final = (*(f"age:{round(bound * 1000)}" for bound in AGE_BOUNDS), "age:more")
_AGE_MS: Final = "age_ms"
#: Names of what the steps count, besides `acknowledged` and `persisted`, which follow from others.
COUNTED: Final = (
    *("coalesced", "deleted", "overtaken", "superseded", "buried", "replayed", "discarded"),
    *("marked", "adopted", "let_go", "operations", "evicted_receipts"),
)
_FIRST: Final = "first"
_KNOWN: Final = frozenset((*COUNTED, _FIRST, _AGE_MS, *_AGES))
#: Before the collection and the reason under which `bury` counts a letter.
_LETTERS: Final = "letters:"
_NUMBER: Final = re.compile(rb"[0-9]{1,18}")
#: No write has waited for longer in the mean, ms: four months. Nor have all together: it is the longest number.
_MOST_MEAN_AGE_MS: Final = 10**10
_MOST_AGES_MS: Final = 10**18 - 1
#: Of names and numbers that other hands have put there, so many characters are told of each.
_SHOWN: Final = 60


@dataclass(frozen=True, slots=True)
class Totals:
    """Totals since the first start.

    Attributes:
        by_name: counts. At any moment `acknowledged` + `replayed` + `marked` + `adopted` is `persisted` +
            `deleted` + `coalesced` + `buried` + `let_go` + what is pending.
        ages: how many of the writes that are persisted or deleted took up to each of `AGE_BOUNDS`, and longer than
            the bound before; the last ones longer than all.
        age_s: how long they took together, seconds.
        letters: how many writes became dead letters, by collection and reason.
        missing: keys of which it is not known what they count, as their server is away while others are not.
    """

    by_name: Mapping[str, int]
    ages: tuple[int, ...]
    age_s: float
    letters: Mapping[tuple[str, str], int]
    missing: frozenset[str] = frozenset()


def read(wire: Wire, partitions: int) -> Totals:
    """All totals, in two round trips: of the partitions that there are, and that there were.

    Raises:
        RedisUnavailableError: Redis does not answer.
    """
    most, of_none = _calls(wire, [("GET", keys.MOST_EVER), ("HGETALL", keys.COUNTERS)])
    ever = max(partitions, min(whole(most), MOST_PARTITIONS))
    places = [partition_keys(one).counts for one in range(ever)]
    of_each = dict(zip(places, _calls(wire, [("HGETALL", key) for key in places]), strict=True))
    counted: Counter[str] = Counter()
    for key, flat in of_each.items():
        counted.update(_read(wire, key, flat or ()))
    ages = tuple(counted[name] for name in _AGES)
    exact = {
        "acknowledged": counted[_FIRST] + counted["coalesced"],
        "persisted": max(0, sum(ages) - counted["deleted"]),  # or other hands have taken some out
        **{name: counted[name] for name in COUNTED},
    }
    others = _read_others(wire, of_none or ())
    by_name = {name: exact.get(name, 0) + others.get(name, 0) for name in (*exact, *others)}
    letters = {
        (collection, reason): number
        for name, number in counted.items()
        for _, collection, reason in [name.split(":", 2) if name.startswith(_LETTERS) else ("", "", "")]
        if reason
    }
    missing = frozenset(key for key, flat in {keys.COUNTERS: of_none, **of_each}.items() if flat is None)
    return Totals(by_name, ages, counted[_AGE_MS] / 1000, letters, missing)


def came(totals: Totals) -> int:
    """The writes that have become pending, by any way."""
    return sum(totals.by_name.get(name, 0) for name in ("acknowledged", "replayed", "marked", "adopted"))


def left(totals: Totals) -> int:
    """The writes that are not pending any more, by any way."""
    return sum(totals.by_name.get(name, 0) for name in ("persisted", "deleted", "coalesced", "buried", "let_go"))


def _calls(wire: Wire, commands: Sequence[tuple[str, str]]) -> list[Any]:
    """The answers, `None` of a server that is away while others are not.

    What is of another type than a count is taken out by that, and is no reason to say nothing.
    """
    ask = partial(wire.calls_answered, commands)
    unknown = [None] * len(commands)
    try:
        return known(wire, ask, unknown)
    except MistypedKeyError:
        return known(wire, ask, unknown)


def _read(wire: Wire, key: str, flat: Sequence[bytes]) -> dict[str, int]:
    """The counts of a partition."""
    found = {name.decode(errors="replace"): number for name, number in pairs(flat)}
    known = {name: number for name, number in found.items() if name in _KNOWN or name.startswith(_LETTERS)}
    kept = _without_wrong(wire, key, known)
    took = sum(kept.get(name, 0) for name in _AGES)
    if kept.get(_AGE_MS, 0) > took * _MOST_MEAN_AGE_MS:
        _take_out(wire, key, {_AGE_MS: known[_AGE_MS]})
        del kept[_AGE_MS]
    return kept


def _read_others(wire: Wire, flat: Sequence[bytes]) -> dict[str, int]:
    """The counts that have no partition."""
    found = {name.decode(errors="replace"): number for name, number in pairs(flat)}
    return _without_wrong(wire, keys.COUNTERS, found)


def _without_wrong(wire: Wire, key: str, found: Mapping[str, bytes]) -> dict[str, int]:
    """Counts, but none that nobody has counted."""
    wrong = {name: number for name, number in found.items() if not _is_count(name, number)}
    if wrong:
        _take_out(wire, key, wrong)
    return {name: int(number) for name, number in found.items() if name not in wrong}


def _is_count(name: str, number: bytes) -> bool:
    most = _MOST_AGES_MS if name == _AGE_MS else MOST_COUNT
    return _NUMBER.fullmatch(number) is not None and int(number) <= most


def _take_out(wire: Wire, key: str, wrong: Mapping[str, bytes]) -> None:
    """Let counts begin anew: nothing can be added to them, or nobody could tell what has been."""
    shown = ", ".join(f"{name[:_SHOWN]} = {number[:_SHOWN]!r}" for name, number in sorted(wrong.items()))
    log.critical(
        "other hands have put %s into %s that are none, and begin anew: %s",
        plurals.counted(len(wrong), "count"),
        key,
        shown[: 4 * _SHOWN],
        extra={"event": "counts_spoiled"},
    )
    wire.call("HDEL", key, *wrong)
