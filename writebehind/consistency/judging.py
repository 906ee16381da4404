"""Judgement of one look: whether readers see what MongoDB has, or what was acknowledged after it."""

from __future__ import annotations

import time
from enum import StrEnum

from writebehind.documents.entry import Entry, Kind
from writebehind.reading.freshness import fresh_ms
from writebehind.redis.unsettled import Shown
from writebehind.settings.collection import CollectionSettings


class Fault(StrEnum):
    """Ways in which readers see something else than they should."""

    OLDER = "older"
    """An older version than MongoDB has."""
    NEWER = "newer"
    """A newer version than MongoDB has, which is neither pending nor a dead letter."""
    DIFFERENT = "different"
    """Other content than MongoDB has: of the same version, or somebody else has written without one."""
    HIDDEN = "hidden"
    """No document, and MongoDB has one."""
    GONE = "gone"
    """A document that MongoDB does not have."""
    DAMAGED = "damaged"
    """A body that its ETag is not of: it was changed in Redis, or nobody can read the entry."""
    LOST = "lost"
    """The state of MongoDB, though a write is pending: its entry is gone."""
    BEHIND_REDIS = "behind-redis"
    """Something else from the API than Redis has."""


def entry_of(shown: Shown) -> Entry | None:
    """The entry without its body; `None` where there is none, and readers load what MongoDB has."""
    return Entry.shown(shown.header) if shown.header else None


def is_served(shown: Shown, settings: CollectionSettings) -> bool:
    """Whether readers are served the entry, and do not load what MongoDB has as it is too old."""
    if not settings.grace_ms or shown.ttl_ms < 0 or not shown.header:
        return bool(shown.header)
    entry = Entry.shown(shown.header)
    return fresh_ms(entry, shown.ttl_ms, settings) >= -settings.stale_while_revalidate * 1000


def is_stale(shown: Shown, settings: CollectionSettings) -> bool:
    """Whether readers are served the entry after its time, while it is read anew."""
    if not settings.grace_ms or shown.ttl_ms < 0 or not shown.header:
        return False
    return fresh_ms(Entry.shown(shown.header), shown.ttl_ms, settings) < 0


def fault_of(shown: Shown, stored: Entry) -> Fault | None:
    """The fault of what readers see, where MongoDB has `stored`; `None` where there is none.

    A body that was changed beneath its header is wrong whatever the header says.
    What is pending or a dead letter was acknowledged last, and is right whatever MongoDB has, unless that is a
    later version which Redis may have issued. A deletion is right before an older version as well: a flusher that
    was late has brought it back, and the audit will delete it.
    """
    entry = entry_of(shown)
    if entry is None:
        return Fault.LOST if shown.unsettled else None
    if shown.intact is False:
        return Fault.DAMAGED
    if shown.unsettled:
        is_later = entry.version < stored.version <= time.time() * 1e6
        return Fault.OLDER if is_later else None
    return None if entry.same_content(stored) else _difference(entry, stored)


def _difference(entry: Entry, stored: Entry) -> Fault | None:
    """The fault of a settled entry that is not what MongoDB has."""
    if not stored.exists:
        return Fault.GONE
    if not entry.exists:
        is_back = entry.kind is Kind.DELETED and 0 < stored.version < entry.version
        return None if is_back else Fault.HIDDEN
    if not stored.version or stored.version == entry.version:
        return Fault.DIFFERENT
    return Fault.OLDER if stored.version > entry.version else Fault.NEWER


def is_later_than(shown: Shown, version: int) -> bool:
    """Whether readers see this version by now, or a later one."""
    entry = entry_of(shown)
    return entry is not None and 0 < version <= entry.version
