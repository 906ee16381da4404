"""Turns of threads: one after the other for as long as each ends, and nobody waits where none does."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.forking import in_child
from tests.waiting import wait_until
from writebehind.writing import turns
from writebehind.writing.turns import Line, Turns


def line_of(of: Turns) -> Line:
    return of._lines[hash("users/s:ada") % turns.LINES]


def waiting(of: Turns) -> int:
    return len(line_of(of)._waiting)


def changed(of: Turns) -> None:
    with of.of("users/s:ada"):
        pass


def test_turns_come_in_the_order_in_which_they_were_waited_for():
    """Who has waited longest is next, so that nobody waits for who came later."""
    of, order = Turns(), []

    def change(number: int) -> None:
        with of.of("users/s:ada"):
            order.append(number)

    with ThreadPoolExecutor(5) as threads:
        with of.of("users/s:ada"):
            for number in range(5):
                threads.submit(change, number)
                wait_until(lambda number=number: waiting(of) == number + 1, "one more in the line")
        threads.shutdown()
    assert [0, 1, 2, 3, 4] == order


class Waited:
    """Stands in for a turn that comes after so many waits in vain; in the first ones others end theirs."""

    def __init__(self, line: Line, waits: int, *, turns_end: int, seconds: float = 2) -> None:
        self._line, self._left, self._turns_end, self._seconds = line, waits, turns_end, seconds
        self.now = 0.0

    def acquire(self, *, timeout: float) -> bool:
        assert timeout == turns.PATIENCE_S
        self._left -= 1
        self.now += self._seconds
        self._turns_end -= 1
        self._line._ended += self._turns_end >= 0
        return self._left < 0

    def monotonic(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("waits", "turns_end", "comes"), [(9, 9, True), (1, 0, False), (4, 3, False), (11, 11, False)],
    ids=["others end", "nobody ends", "nobody ends any more", "too many others end"],
)  # fmt: skip
def test_who_sees_others_end_waits_for_the_own_turn(monkeypatch, waits, turns_end, comes):
    """A slow machine does not have all its threads compete for one document; but no request waits for ever."""
    line = Line()
    turn = Waited(line, waits, turns_end=turns_end)
    monkeypatch.setattr(turns, "time", turn)

    assert comes == line._comes(turn)


def test_who_goes_on_without_a_turn_ends_none(monkeypatch):
    """Those behind it wait on for whoever has the turn, and turns come as before."""
    monkeypatch.setattr(turns, "PATIENCE_S", 0.02)
    of = Turns()
    with ThreadPoolExecutor(1) as threads:
        with of.of("users/s:ada"):
            threads.submit(changed, of).result(10)
            assert (True, 0) == (line_of(of)._is_taken, waiting(of))
        assert not line_of(of)._is_taken


def test_who_is_interrupted_leaves_the_line(monkeypatch):
    """A time limit that ends a wait keeps nobody else from the turn, also where it has just come."""
    of = Turns()
    line = line_of(of)

    def interrupted(_: threading.Lock) -> bool:
        if is_handed_over:
            line.end()
        raise TimeoutError

    for is_handed_over in (False, True):
        assert line.take()
        with monkeypatch.context() as patched:
            patched.setattr(line, "_comes", interrupted)
            with pytest.raises(TimeoutError):
                line.take()
        if not is_handed_over:
            line.end()
        assert (False, 0) == (line._is_taken, waiting(of))


def test_a_child_of_a_fork_has_no_turns_of_its_parent():
    """The threads that had them, or waited, are not there."""
    of = Turns()
    with of.of("users/s:ada"):
        assert in_child(lambda: line_of(of).take())
