"""MongoDB as a listener asks it: it is behind with an answer only while it owes one."""

from __future__ import annotations

import pytest

from writebehind.change_stream.asking import Asking

NOW_MS = 1_000_000


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """The monotonic clock, in the hands of the test."""
    at = [100.0]
    monkeypatch.setattr("writebehind.change_stream.asking.time.monotonic", lambda: at[0])
    return at


def test_before_the_first_answer_the_note_stands():
    """MongoDB may have been away long before this listener began."""
    asking = Asking()
    assert [0, 7] == [asking.heard_ms(noted, NOW_MS) for noted in (0, 7)]
    with asking.ask():
        assert (True, 7) == (asking.is_open, asking.heard_ms(7, NOW_MS))
    assert (False, NOW_MS) == (asking.is_open, asking.heard_ms(7, NOW_MS))


def test_what_is_not_asked_is_not_owed(clock):
    """While Redis is away nobody asks: the time does not count, and the question after it does from its start."""
    asking = Asking()
    with asking.ask():
        pass
    clock[0] += 30
    assert NOW_MS == asking.heard_ms(7, NOW_MS)
    with asking.ask():
        clock[0] += 4
        assert NOW_MS - 4_000 == asking.heard_ms(7, NOW_MS)
        assert NOW_MS - 1_000 == asking.heard_ms(NOW_MS - 1_000, NOW_MS)


def test_a_question_that_fails_is_owed_from_its_start(clock):
    """Also while the next one is asked, and between the two."""
    asking = Asking()
    with asking.ask():
        pass

    def fail() -> None:
        with asking.ask():
            clock[0] += 2
            raise ConnectionError

    for waited_s in (2, 4):
        with pytest.raises(ConnectionError):
            fail()
        assert (False, NOW_MS - waited_s * 1_000) == (asking.is_open, asking.heard_ms(7, NOW_MS))
