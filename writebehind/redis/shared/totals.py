"""Totals since the first start: what atomic steps have counted in each partition, and what has no partition."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from writebehind.redis import keys
from writebehind.redis.keys import MOST_PARTITIONS, partition_keys
from writebehind.redis.strays import whole
from writebehind.redis.wire import Wire
from writebehind.sequences import pairs

#: Bounds of the time from a write's acknowledgement until it is known to be in MongoDB, seconds.
AGE_BOUNDS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 1_800.0, 3_600.0)
_AGES: Final = (*(f"age:{round(bound * 1000)}" for bound in AGE_BOUNDS), "age:more")
_AGE_MS: Final = "age_ms"
#: Names of what the steps count, besides `acknowledged` and `persisted`, which follow from others.
COUNTED: Final = (
    *("coalesced", "deleted", "overtaken", "superseded", "buried", "replayed", "discarded"),
    *("marked", "adopted", "let_go", "operations"),
)
_FIRST: Final = "first"
_KNOWN: Final = frozenset((*COUNTED, _FIRST, _AGE_MS, *_AGES))
#: Before the collection and the reason under which `bury` counts a letter.
_LETTERS: Final = "letters:"
_NUMBER: Final = re.compile(rb"[0-9]{1,18}")


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
    """

    by_name: Mapping[str, int]
    ages: tuple[int, ...]
    age_s: float
    letters: Mapping[tuple[str, str], int]


def read(wire: Wire, partitions: int) -> Totals:
    """All totals, in two round trips: of the partitions that there are, and that there were.

    Raises:
        RedisUnavailableError: Redis does not answer.
    """
    most, of_none = wire.calls((("GET", keys.MOST_EVER), ("HGETALL", keys.COUNTERS)))
    ever = max(partitions, min(whole(most), MOST_PARTITIONS))
    of_each = wire.calls([("HGETALL", partition_keys(one).counts) for one in range(ever)])
    counted: Counter[str] = Counter()
    for number, flat in enumerate(of_each):
        counted.update(_read(wire, partition_keys(number).counts, flat))
    ages = tuple(counted[name] for name in _AGES)
    exact = {
        "acknowledged": counted[_FIRST] + counted["coalesced"],
        "persisted": sum(ages) - counted["deleted"],
        **{name: counted[name] for name in COUNTED},
    }
    others = {name.decode(errors="replace"): whole(number) for name, number in pairs(of_none)}
    by_name = {name: exact.get(name, 0) + others.get(name, 0) for name in (*exact, *others)}
    letters = {
        (collection, reason): number
        for name, number in counted.items()
        for _, collection, reason in [name.split(":", 2) if name.startswith(_LETTERS) else ("", "", "")]
        if reason
    }
    return Totals(by_name, ages, counted[_AGE_MS] / 1000, letters)


def _read(wire: Wire, key: str, flat: Sequence[bytes]) -> dict[str, int]:
    """The counts of a partition. What other hands have made no number is taken out: nothing can be added to it."""
    found = {name.decode(errors="replace"): number for name, number in pairs(flat)}
    known = {name: number for name, number in found.items() if name in _KNOWN or name.startswith(_LETTERS)}
    wrong = [name for name, number in known.items() if not _NUMBER.fullmatch(number)]
    if wrong:
        wire.call("HDEL", key, *wrong)
    return {name: int(number) for name, number in known.items() if name not in wrong}
