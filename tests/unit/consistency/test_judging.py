"""Judgement of one look at a document."""

from __future__ import annotations

import pytest

from writebehind.consistency.judging import Fault, fault_of, is_served, is_stale
from writebehind.documents.entry import ABSENT, Entry, Kind
from writebehind.redis.unsettled import Shown
from writebehind.settings.collection import CollectionSettings

OLD, NEW, NEWER = (Entry.loaded(b"%d" % n, 1_000_000 + n) for n in (1, 2, 3))
OTHER, FOREIGN = Entry.loaded(b"other", NEW.version), Entry.loaded(b"foreign", 0)
DELETED = Entry(NEW.version, Kind.DELETED)


def shown(entry: Entry | None, *, unsettled: bool = False, ttl_ms: int = 1_000) -> Shown:
    if entry is None:
        return Shown(b"", -2, unsettled)
    return Shown(entry.header.encode(), -1 if unsettled else ttl_ms, unsettled)


@pytest.mark.parametrize(
    ("seen", "stored", "fault"),
    [
        (NEW, NEW, None),
        (FOREIGN, FOREIGN, None),
        (ABSENT, ABSENT, None),
        (DELETED, ABSENT, None),
        (DELETED, OLD, None),  # a late flusher brought it back: the audit will delete it
        (DELETED, NEWER, Fault.HIDDEN),
        (DELETED, FOREIGN, Fault.HIDDEN),
        (ABSENT, OLD, Fault.HIDDEN),
        (OLD, NEW, Fault.OLDER),
        (NEW, OLD, Fault.NEWER),
        (NEW, OTHER, Fault.DIFFERENT),
        (NEW, FOREIGN, Fault.DIFFERENT),
        (FOREIGN, NEW, Fault.OLDER),
        (NEW, ABSENT, Fault.GONE),
        (FOREIGN, ABSENT, Fault.GONE),
        (None, NEW, None),
        (None, ABSENT, None),
    ],
)
def test_what_is_settled_has_to_be_what_mongodb_has(seen, stored, fault):
    """An entry that nobody brings to MongoDB is right if MongoDB has it; a missing one is loaded."""
    assert fault == fault_of(shown(seen), stored)


@pytest.mark.parametrize(
    ("seen", "stored", "fault"),
    [
        (NEW, ABSENT, None),
        (NEW, OLD, None),
        (NEW, FOREIGN, None),
        (NEW, OTHER, None),
        (DELETED, OLD, None),
        (OLD, NEW, Fault.OLDER),
        (OLD, Entry.loaded(b"far ahead", 1 << 51), None),  # no version that this Redis can have issued
        (None, NEW, Fault.LOST),
    ],
)
def test_what_is_pending_is_right_unless_a_later_version_was_persisted(seen, stored, fault):
    """What was acknowledged last is right whatever MongoDB has, unless Redis has lost a later write."""
    assert fault == fault_of(shown(seen, unsettled=True), stored)


@pytest.mark.parametrize(
    ("left_s", "served", "stale"), [(30, True, False), (15, True, True), (6, True, True), (4, False, True)]
)
def test_an_entry_that_is_too_old_is_not_what_readers_see(left_s, served, stale):
    """After its time an entry is served for `stale_while_revalidate`, and not for `stale_if_error`."""
    settings = CollectionSettings(ttl=60, stale_while_revalidate=15, stale_if_error=20)
    one = shown(NEW, ttl_ms=left_s * 1000)
    assert (served, stale) == (is_served(one, settings), is_stale(one, settings))
    assert is_served(shown(NEW, unsettled=True), settings)
    assert is_served(one, CollectionSettings(ttl=60))


@pytest.mark.parametrize("unsettled", [False, True])
def test_a_body_that_its_etag_is_not_of_is_wrong(unsettled):
    """Whatever the header says, and MongoDB has; one that was not looked at is judged by the header."""
    one = shown(NEW, unsettled=unsettled)
    assert [Fault.DAMAGED, None, None] == [fault_of(one._replace(intact=it), NEW) for it in (False, True, None)]
    assert Fault.DAMAGED is fault_of(one._replace(intact=False), OLD)
