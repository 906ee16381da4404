"""What was at stake is noted with its time, where the next process finds it; what is not known is never 0."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.waiting import wait_until
from writebehind import last_known
from writebehind.last_known import DUE_S, FILES, AtStake, Data, LastKnown

#: Of whoever does not say which installation it is of.
FILE = FILES.replace("*", "")


def known_in(directory: Path | None = None) -> LastKnown:
    """Those of an installation whose Redis answers."""
    return LastKnown(directory, judge=lambda *_: Data("app"))


def noted(known: LastKnown, pending: int) -> LastKnown:
    known.note(pending=pending, pending_bytes=3_145_728, dead_letters=2)
    return known


def test_another_process_finds_it(tmp_path):
    """What one has noted, another tells, also after it has ended; what nobody has seen nobody tells."""
    assert (None, "", True) == ((new := known_in(tmp_path)).latest(), new.told(), new.is_due())
    noted(known_in(tmp_path), 1_203)

    found = known_in(tmp_path)
    assert (1_203, 3_145_728, 2) == ((at := found.latest()).pending, at.pending_bytes, at.dead_letters)
    assert not found.is_due()
    assert "at least 1,205 documents were only in Redis: 1,203 pending of 3 MiB, 2 dead letters" in found.told()
    assert [FILE] == [one.name for one in tmp_path.iterdir()]


def test_installations_share_a_directory(tmp_path):
    """Each has a file of its own; what has a server in common is the same one, which has moved the other."""

    def of(*servers: str) -> LastKnown:
        return LastKnown(tmp_path, of=servers, judge=lambda *_: Data("app"))

    noted(of("redis a", "mongodb a"), 1)
    noted(of("redis b", "mongodb b"), 2)

    assert 1 == of("redis a", "mongodb a").latest().pending
    assert 1 == of("redis new", "mongodb a").latest().pending
    assert 2 == of("data", "redis b", "mongodb new").latest().pending
    assert of("redis c", "mongodb c").latest() is None
    assert of("redis c", "mongodb c").is_due()
    assert 2 == LastKnown(tmp_path).latest().pending
    of("redis a", "mongodb new").forget()
    assert of("redis a", "mongodb a").latest() is None
    assert 2 == of("redis b", "mongodb b").latest().pending


def test_the_latest_counts(tmp_path):
    """Be it one's own or another's; memory has it where there is no directory yet, or no file can be made."""
    own = noted(known_in(tmp_path), 1)
    noted(known_in(tmp_path), 2)
    assert 2 == own.latest().pending
    for place in (None, tmp_path / "none", tmp_path / FILE):
        assert 3 == noted(known_in(place), 3).latest().pending


def test_it_is_due_again_after_a_while(monkeypatch):
    """A process that looks itself where nobody else does need not do so often."""
    known = noted(known_in(), 1)
    monkeypatch.setattr(last_known, "DUE_S", 0.05)
    wait_until(known.is_due, "somebody else to look")


def test_a_clock_that_has_stepped_back(tmp_path):
    """What seems to be of the future is not the latest."""
    (tmp_path / FILE).write_bytes(AtStake(time.time() + 100 * DUE_S, 9, 9, 9).dump())
    known = known_in(tmp_path)
    assert known.latest() is None
    assert 1 == noted(known, 1).latest().pending


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000),
        b'{"at": 1, "pending": 1, "pending_bytes": 1}',
        b'{"at": 1, "pending": -1, "pending_bytes": 1, "dead_letters": 0}',
        b'{"at": NaN, "pending": 1, "pending_bytes": 1, "dead_letters": 0}',
        b'{"at": 1, "pending": 1e400, "pending_bytes": 1, "dead_letters": 0}',
        b'{"at": 1, "pending": "1", "pending_bytes": 1, "dead_letters": 0}',
        b'{"at": 1, "pending": true, "pending_bytes": 1, "dead_letters": 0}',
    ],
)
def test_what_other_hands_have_put_there_is_not_told(tmp_path, text):
    """It counts as not known."""
    (tmp_path / FILE).write_bytes(text)
    assert known_in(tmp_path).latest() is None


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (AtStake(0.0, 0, 0, 0), "no documents were only in Redis"),
        (AtStake(0.0, 1, 1, 0), "1 document was only in Redis: 1 pending of 1 byte, 0 dead letters"),
        (AtStake(0.0, 0, 0, 1), "1 document was only in Redis: 0 pending, 1 dead letter"),
    ],
)
def test_it_is_said_in_words(seen, said):
    """With the day, where that is not today."""
    assert f"at 1970-01-01 {time.strftime('%H:%M:%S', time.localtime(0.0))}" in str(seen)
    assert seen.told().endswith(f") {said}")
    assert str(seen).endswith(f"{said}; what was written after that is not counted")
    assert ("at least" in str(seen)) == bool(seen.documents)
    assert "1970-01-01T00:00:00.000Z" == seen.as_dict()["at"]
