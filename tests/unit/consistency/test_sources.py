"""What can be told of a change without asking MongoDB."""

from __future__ import annotations

import pytest

from writebehind.consistency.changes import Change
from writebehind.consistency.sources import has_seen
from writebehind.consistency.verified import NOTHING_KNOWN, Verified
from writebehind.documents.entry import ABSENT, Entry, Kind
from writebehind.documents.ids import DocumentId
from writebehind.redis.unsettled import Shown

ONE = DocumentId.of("users", "ada")
OLD, NEW, FOREIGN = Entry.loaded(b"1", 1), Entry.loaded(b"2", 2), Entry.loaded(b"f", 0)
DELETED = Entry(2, Kind.DELETED)


@pytest.mark.parametrize(
    ("entry", "unsettled", "version", "deleted", "seen"),
    [
        (NEW, False, 2, False, True),  # readers see what was written
        (NEW, False, 1, False, True),  # or what was written later
        (OLD, False, 2, False, False),
        (NEW, False, 0, False, False),  # somebody else has written
        (FOREIGN, False, 2, False, False),
        (FOREIGN, False, 0, False, False),
        (ABSENT, False, 2, False, False),
        (ABSENT, False, 0, True, True),
        (DELETED, False, 0, True, True),
        (DELETED, False, 1, False, True),
        (DELETED, False, 2, False, False),
        (NEW, False, 0, True, False),
        (NEW, True, 1, False, True),  # pending comes after it
        (NEW, True, 0, True, True),
        (OLD, True, 2, False, False),
        (None, False, 2, False, True),  # readers load it
        (None, True, 2, False, False),
    ],
)
def test_readers_have_seen_a_change_or_mongodb_is_asked(entry, unsettled, version, deleted, seen):
    """A version is compared with that of the entry; of what has none MongoDB is asked."""
    shown = Shown(entry.header.encode() if entry else b"", -1 if unsettled else 1_000, unsettled)
    assert seen == has_seen(shown, Change(ONE, version, deleted), NOTHING_KNOWN)


def test_a_version_that_was_there_before_may_have_other_content():
    """Who puts a document back with the version that it had is found, as that version was known to be there."""
    shown, verified = Shown(NEW.header.encode(), 1_000, unsettled=False), Verified(1 << 4)
    verified.add(ONE.member, shown.header)
    assert not has_seen(shown, Change(ONE, 2, deleted=False), verified.take(ONE.member))
    assert has_seen(shown, Change(ONE, 2, deleted=False), verified.take(ONE.member))
