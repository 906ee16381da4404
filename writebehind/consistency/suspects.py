"""Documents of which readers saw what is not right, looked at again until they see it, or 60 s are over."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from writebehind.consistency.judging import Fault, entry_of, is_later_than
from writebehind.consistency.tally import WINDOWS, Apart, Tally
from writebehind.documents.entry import Entry
from writebehind.documents.ids import DocumentId
from writebehind.redis.unsettled import Shown

#: What is only on its way between two servers is right at the second look, after so many seconds.
FIRST_S = 0.25
#: Of a window that ended so long before the next look nobody knows whether it was right by then, seconds.
LATE_S = 1.0
#: So many are looked at again and again. Where there are more, others are looked at when some are decided.
MOST = 1_000


@dataclass(slots=True)
class Look:
    """A look at a suspect: when, by the monotonic clock, from where, and how many windows are decided."""

    at: float
    source: str
    apart: Apart
    decided: int = 0


@dataclass(slots=True)
class Suspect:
    """A document that was wrong when it was looked at.

    Attributes:
        id: the document.
        fault: what was wrong.
        shown: what readers saw.
        stored: what MongoDB had, without the body.
        began: when that was, by the monotonic clock; `since` by that of this machine, seconds since the epoch.
        looks: at it since, which are not decided.
        next_at: when it is looked at again.
        named: the longest window that it is known to be wrong for.
    """

    id: DocumentId
    fault: Fault
    shown: Shown
    stored: Entry
    began: float
    since: float
    looks: list[Look] = field(default_factory=list)
    next_at: float = 0.0
    named: int = 0

    def is_wrong_still(self, shown: Shown) -> bool:
        """Whether what is wrong now was wrong then: readers see the same, or nothing yet that was right."""
        if shown.header == self.shown.header:
            return True
        is_before = self.stored.version > 0 and not is_later_than(shown, self.stored.version)
        return is_before and not shown.unsettled


class Suspects:
    """The suspects of one observer, by member. For one thread."""

    def __init__(self, tally: Tally) -> None:
        """Count what is decided there."""
        self._tally = tally
        self._of: dict[str, Suspect] = {}
        self.found = 0

    def __len__(self) -> int:
        return len(self._of)

    def __contains__(self, member: str) -> bool:
        return member in self._of

    def __iter__(self) -> Iterator[Suspect]:
        return iter(self._of.values())

    @property
    def is_full(self) -> bool:
        """Whether no more are taken."""
        return len(self._of) >= MOST

    @property
    def members(self) -> list[str]:
        """Their members."""
        return list(self._of)

    def add(self, one: DocumentId, fault: Fault, shown: Shown, stored: Entry, look: Look) -> None:
        """Suspect a document of which a look was wrong."""
        suspect = Suspect(one, fault, shown, stored, look.at, time.time(), [look], look.at + FIRST_S)
        self._of[one.member] = suspect

    def look_again(self, member: str, look: Look) -> None:
        """Note that somebody has come across a suspect again: the look is decided like the others."""
        suspect = self._of[member]
        suspect.looks.append(look)
        suspect.next_at = min(suspect.next_at, look.at + WINDOWS[0])

    def due(self, now: float) -> dict[str, Suspect]:
        """Those that are to be looked at now, by member."""
        return {member: one for member, one in self._of.items() if one.next_at <= now}

    def next_at(self) -> float | None:
        """The time at which the next one is due, by the monotonic clock."""
        return min((one.next_at for one in self._of.values()), default=None)

    def decide(self, member: str, fault: Fault | None, shown: Shown, stored: Entry, now: float) -> None:
        """Take what a look at a suspect has shown: it is right by now, as wrong as it was, or wrong anew."""
        suspect = self._of[member]
        if fault is not None and suspect.is_wrong_still(shown):
            self._still_wrong(suspect, now)
            return
        for look in suspect.looks:
            after = look.decided + sum(look.at + one + LATE_S < now for one in WINDOWS[look.decided :])
            if after < len(WINDOWS):
                self._tally.right(suspect.id.collection, look.source, look.apart, after=after)
        del self._of[member]
        if fault is not None:
            self.add(suspect.id, fault, shown, stored, Look(now, suspect.looks[-1].source, _NOT_APART))

    def forget(self, member: str) -> None:
        """Leave undecided what cannot be compared."""
        del self._of[member]

    def clear(self) -> None:
        """Leave all undecided, as somebody else looks by now."""
        self._of.clear()

    def begin_anew(self, now: float) -> None:
        """Let no time count in which nobody could look."""
        for one in self._of.values():
            one.began, one.since, one.next_at = now, time.time(), now + FIRST_S
            for look in one.looks:
                look.at = now

    def wrong_now(self, now: float) -> list[Mapping[str, object]]:
        """Those that are wrong for the first window at least."""
        return [
            {"collection": one.id.collection, "id": one.id.text, **_told(one, now - one.began)}
            for one in self._of.values()
            if one.named
        ]

    def _still_wrong(self, suspect: Suspect, now: float) -> None:
        left, seconds = [], now - suspect.began
        for look in suspect.looks:
            while look.decided < len(WINDOWS) and now >= look.at + WINDOWS[look.decided]:
                self._tally.wrong(suspect.id.collection, look.source, look.apart, look.decided)
                look.decided += 1
            if look.decided < len(WINDOWS):
                left.append(look)
        longest = max((one for one in WINDOWS if one <= seconds), default=0)
        if longest > suspect.named:
            self.found += not suspect.named
            suspect.named = longest
            self._tally.name(suspect.id, _told(suspect, seconds))
        suspect.looks = left
        if left:
            suspect.next_at = min(one.at + WINDOWS[one.decided] for one in left)
        else:  # whoever comes across it again suspects it anew
            del self._of[suspect.id.member]


#: What follows from another look is no look by itself.
_NOT_APART = (False,) * len(WINDOWS)


def _told(suspect: Suspect, seconds: float) -> dict[str, object]:
    return described(suspect.fault, suspect.shown, suspect.stored, since=suspect.since, seconds=seconds)


def described(fault: Fault, shown: Shown, stored: Entry, *, since: float, seconds: float) -> dict[str, object]:
    """A fault for reports: what readers saw and what MongoDB had, without bodies, since when and for how long."""
    return {
        "fault": fault.value,
        "since": round(since, 3),
        "seconds": round(seconds, 1),
        "shown": _state(entry) if (entry := entry_of(shown)) is not None else None,
        "stored": _state(stored),
    }


def _state(entry: Entry) -> dict[str, object]:
    return {"kind": entry.kind.value, "version": entry.version, "etag": entry.etag}
