"""Looks that were counted, until Redis has the counts; and figures made of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import orjson

from writebehind.consistency.interval import interval, nines
from writebehind.documents.ids import DocumentId
from writebehind.redis.store import Store
from writebehind.settings.names import told_apart
from writebehind.tallies.apart import ToldApart
from writebehind.tallies.families import OTHER

#: Seconds after which readers have to see what is right: a look is right within the first in which they do.
WINDOWS = (1, 10, 60)
#: The time that figures are about, seconds.
SPAN_S = 3_600
#: After so long in which nobody has looked figures of what was seen say nothing of now, seconds: an observer notes
#: each few seconds that it looks, and from then on another one may take its place.
UNOBSERVED_S = 10.0
#: Collections that one observer counts by name besides those of the settings, as clients may name others.
MOST_UNLISTED = 50
#: Documents that the figures name.
MOST_NAMED = 10
#: Where looks come from.
ENTRIES, CHANGES, API = "entries", "changes", "api"
#: Of a window: all looks, those that were wrong after it, and those that are so far from others of their document.
_LOOKS, _WRONG, _APART = "looks", "wrong", "apart"

_NAMES = {str(window): window for window in WINDOWS}
_SOURCES = {ENTRIES, CHANGES, API}

#: Which windows a look is apart for, in their order.
Apart = tuple[bool, ...]


class Tally:
    """Counts of one observer. For one thread."""

    def __init__(self, listed: Collection[str] = ()) -> None:
        """None yet; collections that are `listed` are counted by name, however many others there are."""
        self._listed = frozenset(listed)
        #: Looks that were right, by all that decides where they count; each of them is counted soon, and cheaply.
        self._right: Counter[tuple[str, str, Apart, int]] = Counter()
        self._counts: Counter[str] = Counter()
        self._wrong: list[bytes] = []
        self._named: dict[tuple[object, ...], dict[str, Any]] = {}
        self._unlisted: set[str] = set()
        self._total: Counter[str] = Counter()

    @property
    def total(self) -> Mapping[str, int]:
        """All counts of this observer, by name."""
        self._sort()
        return self._total

    def right(self, collection: str, source: str, apart: Apart, count: int = 1, *, after: int = 0) -> None:
        """Count looks that were right within the windows from the one at a position on."""
        self._right[collection, source, apart, after] += count

    def wrong(self, collection: str, source: str, apart: Apart, at: int) -> None:
        """Count a look that is wrong after the window at a position."""
        for what in (_LOOKS, _WRONG, *([_APART] if apart[at] else [])):
            self._add(collection, source, at, what, 1)

    def name(self, one: DocumentId, told: Mapping[str, Any]) -> None:
        """Remember a document that is wrong."""
        noted = {"collection": one.collection, "id": one.text, **told}
        self._wrong.append(orjson.dumps(noted))
        self._named.pop(_which(noted), None)  # it comes last then
        self._named[_which(noted)] = noted
        if len(self._named) > MOST_NAMED:
            del self._named[next(iter(self._named))]

    def named(self) -> list[dict[str, Any]]:
        """The latest documents that this observer saw to be wrong, the last first, each as it was noted last."""
        return list(reversed(self._named.values()))

    def flush(self, store: Store) -> None:
        """Let Redis add what was counted; what is lost with it is lost from the figures only.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        self._sort()
        counts, self._counts = self._counts, Counter()
        wrong, self._wrong = self._wrong, []
        if counts or wrong:
            store.samples.add(counts, wrong)

    def _sort(self) -> None:
        right, self._right = self._right, Counter()
        for (collection, source, apart, after), count in right.items():
            for at in range(after, len(WINDOWS)):
                self._add(collection, source, at, _LOOKS, count)
                if apart[at]:
                    self._add(collection, source, at, _APART, count)

    def _add(self, collection: str, source: str, at: int, what: str, count: int) -> None:
        if collection not in self._listed and collection not in self._unlisted:
            if len(self._unlisted) < MOST_UNLISTED:
                self._unlisted.add(collection)
            else:
                collection = OTHER
        name = f"{collection} {source} {WINDOWS[at]} {what}"
        self._counts[name] += count
        self._total[name] += count


def is_observed(seconds_ago: float | None, *, is_mongodb_away: bool) -> bool:
    """Whether figures of what readers see say anything of now: status, doctor and console all go by it.

    Args:
        seconds_ago: the time since somebody has looked last, seconds; `None` where nobody has.
        is_mongodb_away: whether MongoDB does not answer, so that nobody can look, however late they have.
    """
    return seconds_ago is not None and seconds_ago <= UNOBSERVED_S and not is_mongodb_away


def figures(
    counts: Mapping[str, int],
    own: ToldApart | None = None,
    *,
    observed_s: float = SPAN_S,
) -> dict[str, Any]:
    """The fractions of looks that were right within each window: in total, by collection, and by source.

    Args:
        counts: by their names.
        own: knows the collections that have figures of their own; by default the first ones by name.
        observed_s: the time that an observer had. It could see nothing to be wrong for as long or longer, so that
            what it saw to be right within such a window says nothing.
    """
    total: dict[int, Counter[str]] = {window: Counter() for window in WINDOWS}
    by: dict[str, dict[str, dict[int, Counter[str]]]] = {"collections": {}, "sources": {}}
    known = [(name.split(" "), count) for name, count in counts.items()]
    known = [one for one in known if _is_known(one[0])]
    have = told_apart((collection for (collection, *_), _ in known), own or ToldApart())
    for (collection, source, window, what), count in known:
        seconds = _NAMES[window]
        for kind, key in (("collections", collection if collection in have else OTHER), ("sources", source)):
            by[kind].setdefault(key, {one: Counter() for one in WINDOWS})[seconds][what] += count
        total[seconds][what] += count
    return {
        "windows": _windows(total, observed_s),
        **{
            kind: {key: _windows(one, observed_s) for key, one in sorted(some.items())}
            for kind, some in by.items()
        },
    }


def named_since(store: Store, at: float) -> list[dict[str, Any]]:
    """The latest documents that were wrong at a time, seconds since the epoch, or later.

    Raises:
        RedisUnavailableError: Redis does not answer.
    """
    return _latest(store.samples.wrong(MOST_NAMED * len(WINDOWS)), since=at)


def recorded(store: Store, own: ToldApart | None = None) -> dict[str, Any]:
    """The figures of the last hour, of all observers there were; and documents that were wrong, of a day.

    It is `own` that knows which collections have figures of their own.

    Raises:
        RedisUnavailableError: Redis does not answer.
    """
    return {
        "span_seconds": SPAN_S,
        **figures(store.samples.counts(seconds=SPAN_S), own),
        "inconsistent": _latest(store.samples.wrong(MOST_NAMED * len(WINDOWS))),
    }


def _is_known(parts: Sequence[str]) -> bool:
    """Whether these are the parts of a count's name: other releases have others, and other hands may put some."""
    match parts:
        case _, source, window, what:
            return source in _SOURCES and window in _NAMES and what in {_LOOKS, _WRONG, _APART}
    return False


def _windows(counted: Mapping[int, Mapping[str, int]], observed_s: float) -> dict[str, Any]:
    return {str(window): _figure(one, is_known=window < observed_s) for window, one in counted.items()}


def _figure(counted: Mapping[str, int], *, is_known: bool) -> dict[str, Any]:
    looks, wrong = counted.get(_LOOKS, 0), counted.get(_WRONG, 0)
    fraction = wrong / looks if 0 < looks >= wrong else float(wrong > 0)
    apart = min(counted.get(_APART, 0), looks) if is_known else 0
    has_ratio = looks > 0 and is_known
    low, high = interval(fraction * apart, apart)
    return {
        "looks": looks,
        "apart": apart,
        "wrong": wrong,
        "ratio": 1 - fraction if has_ratio else None,
        "ratio_from": 1 - high,
        "ratio_to": 1 - low,
        "nines": nines(fraction) if has_ratio else None,
        "nines_from": nines(high),
    }


def _which(told: Mapping[str, Any]) -> tuple[object, ...]:
    """Its document, and when that began to be wrong."""
    return told["collection"], told["id"], told["since"]


def _latest(noted: Sequence[bytes], *, since: float = float("-inf")) -> list[dict[str, Any]]:
    """The documents, each once for each time at which it began to be wrong, that were so since a time."""
    found: dict[tuple[object, ...], dict[str, Any]] = {}
    for text in noted:
        try:
            told = orjson.loads(text)
            if told["since"] + told["seconds"] >= since:
                found.setdefault(_which(told), told)
        except (ValueError, TypeError, KeyError):  # put there by other hands
            continue
    return list(found.values())[:MOST_NAMED]
