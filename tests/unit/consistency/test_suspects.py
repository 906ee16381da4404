"""Suspects: documents that are looked at again, until they are right or 60 s are over."""

from __future__ import annotations

import pytest

from writebehind.consistency.judging import Fault
from writebehind.consistency.suspects import FIRST_S, Look, Suspects
from writebehind.consistency.tally import ENTRIES, WINDOWS, Tally, figures
from writebehind.documents.entry import ABSENT, Entry
from writebehind.documents.ids import DocumentId
from writebehind.redis.unsettled import Shown

ONE = DocumentId.of("users", "ada")
APART = (True, True, True)
OLD, NEW, NEWER = (Entry.loaded(b"%d" % n, n) for n in (1, 2, 3))


def shown(entry: Entry) -> Shown:
    return Shown(entry.header.encode(), 1_000, unsettled=False)


class Observed:
    """One document, looked at again and again."""

    def __init__(self) -> None:
        self.tally = Tally()
        self.suspects = Suspects(self.tally)
        self.see()

    def see(self, at: float = 0.0) -> None:
        """Come across it while it is wrong."""
        if ONE.member in self.suspects:
            self.suspects.look_again(ONE.member, Look(at, ENTRIES, APART))
        else:
            self.suspects.add(ONE, Fault.OLDER, shown(OLD), NEW, Look(at, ENTRIES, APART))

    def wrong(self, at: float, entry: Entry = OLD, stored: Entry = NEW, fault: Fault = Fault.OLDER) -> None:
        self.suspects.decide(ONE.member, fault, shown(entry), stored, at)

    def right(self, at: float, entry: Entry = NEW) -> None:
        self.suspects.decide(ONE.member, None, shown(entry), entry, at)

    @property
    def windows(self) -> list[tuple[int, int]]:
        """Of each window, the looks that are decided and those of them that were wrong."""
        told = figures(self.tally.total)["windows"]
        return [(told[str(one)]["looks"], told[str(one)]["wrong"]) for one in WINDOWS]


@pytest.fixture
def observed() -> Observed:
    return Observed()


def test_what_was_only_on_its_way_counts_as_right(observed):
    """A document that is right at the second look is right within each window."""
    assert FIRST_S == observed.suspects.next_at()
    observed.right(FIRST_S)
    assert [(1, 0)] * 3 == observed.windows
    assert 0 == len(observed.suspects) == observed.suspects.found


def test_a_look_is_wrong_within_the_windows_that_it_outlives(observed):
    """What readers see for 12 s is wrong within 1 s and 10 s, and right within 60 s."""
    for at in (FIRST_S, 1.0, 10.0):
        observed.wrong(at)
    assert [(1, 1), (1, 1), (0, 0)] == observed.windows
    observed.right(12.0)
    assert [(1, 1), (1, 1), (1, 0)] == observed.windows
    assert 1 == observed.suspects.found


def test_after_the_longest_window_a_document_is_no_suspect_until_somebody_comes_across_it(observed):
    """What stays wrong is counted once for each look, and then again only with the next look."""
    for at in (FIRST_S, 1.0, 10.0, 60.0):
        observed.wrong(at)
    assert [(1, 1)] * 3 == observed.windows
    assert 0 == len(observed.suspects)
    observed.see(61.0)
    observed.wrong(62.0)
    assert [(2, 2), (1, 1), (1, 1)] == observed.windows


def test_each_look_at_a_suspect_counts_by_its_own_time(observed):
    """Who comes across it 5 s after another did sees it wrong for the rest of the time only."""
    observed.see(5.0)
    for at in (1.0, 6.0):
        observed.wrong(at)
    assert [(2, 2), (0, 0), (0, 0)] == observed.windows
    observed.wrong(10.0)
    observed.right(12.0)
    assert [(2, 2), (2, 1), (2, 0)] == observed.windows


def test_a_look_at_a_suspect_is_decided_when_its_own_window_ends(observed):
    """And not with the next window of looks before it, by which time the document may be right."""
    for at in (FIRST_S, 1.0, 10.0):
        observed.wrong(at)
    observed.see(26.0)
    assert 27.0 == observed.suspects.next_at()
    observed.wrong(27.0)
    assert 36.0 == observed.suspects.next_at()
    assert [(2, 2), (1, 1), (0, 0)] == observed.windows


def test_a_window_in_which_nobody_could_look_is_not_decided(observed):
    """What is right 12 s later may have been wrong for 11 of them."""
    observed.right(12.0)
    assert [(0, 0), (0, 0), (1, 0)] == observed.windows


def test_readers_who_see_another_wrong_state_by_now_were_right_in_between(observed):
    """A document that changes all the time is not wrong because each look happens to meet a change on its way."""
    for at, entry, stored in ((0.5, NEW, NEWER), (2.0, NEWER, Entry.loaded(b"4", 4))):
        observed.wrong(at, entry, stored)
    assert [(2, 0)] * 3 == observed.windows
    assert 1 == len(observed.suspects)


def test_readers_who_see_another_state_before_the_right_one_are_wrong_still(observed):
    """An entry that was replaced by another one which is older than what MongoDB had then has not become right."""
    observed.suspects.clear()
    observed.suspects.add(ONE, Fault.OLDER, shown(OLD), NEWER, Look(0.0, ENTRIES, APART))
    observed.wrong(1.5, NEW, NEWER)
    assert (1, 1) == observed.windows[0]


def test_other_content_of_the_same_version_is_wrong_while_it_stays(observed):
    """What somebody else has changed without touching the version is no later version of itself."""
    observed.suspects.clear()
    other = Entry.loaded(b"other", OLD.version)
    observed.suspects.add(ONE, Fault.DIFFERENT, shown(OLD), other, Look(0.0, ENTRIES, APART))
    observed.wrong(1.0, OLD, other, Fault.DIFFERENT)
    assert (1, 1) == observed.windows[0]


def test_a_document_that_mongodb_does_not_have_is_wrong_while_it_is_shown(observed):
    """Without a version to compare with, what stays as it was stays wrong."""
    observed.suspects.clear()
    observed.suspects.add(ONE, Fault.GONE, shown(OLD), ABSENT, Look(0.0, ENTRIES, APART))
    observed.wrong(1.0, OLD, ABSENT, Fault.GONE)
    assert (1, 1) == observed.windows[0]


def test_time_in_which_nobody_could_look_does_not_count(observed):
    """After an outage the windows begin anew."""
    observed.wrong(FIRST_S)
    observed.suspects.begin_anew(70.0)
    observed.wrong(70.5)
    assert [(0, 0)] * 3 == observed.windows
    observed.wrong(71.0)
    assert [(1, 1), (0, 0), (0, 0)] == observed.windows
