"""Records in Redis that a newer release has written, while processes of this one still run: a rolling upgrade."""

from __future__ import annotations

import bson
import orjson
import pytest

from writebehind.change_stream.listener_state import UNREADABLE, ListenerState
from writebehind.change_stream.verdicts import Sent
from writebehind.documents.entry import Entry, Kind
from writebehind.flushing.dead_letter import DeadLetter
from writebehind.history.points import COLUMNS, Point
from writebehind.querying.cached_queries import _Found
from writebehind.reconcile.findings import Pass, Place, _read
from writebehind.redis.shared.metrics import Run

MORE = {"added": "by a newer release", "also": {"nested": [1, None]}}
ENTRY = Entry(1_700_000_000_000_000, Kind.DOCUMENT, "0" * 32, b"body")
LETTERS = {
    "refused": DeadLetter.refused("users/s:ada", ENTRY, "duplicate", code=11000, attempts=1, over=7, trace_id="t"),
    "conflict": DeadLetter.conflict("users/s:ada", ENTRY, "newer", over=ENTRY.version + 1),
    "damaged": DeadLetter.damaged("users/s:ada", ENTRY),
    "lost": DeadLetter.lost("users/s:ada"),
}


def with_more(text, **deeper):
    """A JSON object of Redis with fields that this release does not know."""
    return orjson.dumps(orjson.loads(text) | MORE | deeper)


@pytest.mark.parametrize("letter", LETTERS.values(), ids=LETTERS)
def test_a_letter_with_more_fields_is_the_letter(letter):
    """It is not taken for unreadable, which would put another one in its place."""
    noted = letter.dump()

    assert letter == DeadLetter.read(noted[:16] + with_more(noted[16:]))


@pytest.mark.parametrize("name", ["version", "body"])
def test_a_field_does_not_take_the_place_of_what_is_noted_elsewhere(name):
    """The version of a letter is the one in front of its JSON, and its body is none of it."""
    letter = LETTERS["refused"]
    noted = letter.dump()

    assert letter == DeadLetter.read(noted[:16] + with_more(noted[16:], **{name: 1}))


@pytest.mark.parametrize("text", [b"{}", b"[]", b"1", b"null", b'"a"', b'{"reason": "refused"}'])
def test_what_lacks_fields_is_no_letter(text):
    """What other hands have put in the place of a letter is still unreadable."""
    assert DeadLetter.read(LETTERS["refused"].dump()[:16] + text) is None


def test_a_listener_goes_on_at_the_position_of_a_newer_one():
    """Its token is read: a listener that found none would empty the cache."""
    state = ListenerState("82", "here", at_ms=1, lag_s=0.5)

    assert state == ListenerState.parse(with_more(state.dump())) != ListenerState(UNREADABLE)


def test_a_pass_goes_on_that_a_newer_release_has_begun():
    """Its place and figures are kept: a pass that cannot be read begins anew."""
    one = Pass(started_ms=1, keys=3, found={"a-kind-of-a-newer-release": 2}, place=Place("7", partition=2))
    told = orjson.loads(orjson.dumps(one))

    assert one == _read(orjson.dumps(told | MORE | {"place": told["place"] | MORE}))


def test_a_run_is_told_that_a_newer_release_has_recorded():
    """The run of a periodic task is not missing, which would be told as one that never ran."""
    run = Run(5, 0.25, {"done": 1}, "")

    assert run == Run.parse(b"5 " + with_more(b'{"seconds": 0.25, "outcome": {"done": 1}, "error": ""}'))


def test_a_point_of_history_may_have_more_columns():
    """Those at the end that this release does not know are passed over, whatever they hold."""
    point = Point(12.5, dict.fromkeys(COLUMNS, 1))

    assert point == Point.parse(orjson.dumps([*orjson.loads(point.dump()), True, {"a": 1}, [1]]))
    assert Point.parse(orjson.dumps([12.5, True])) is None


def test_a_result_of_a_query_may_have_more_fields():
    """It is shown: else each process of the other release would drop what one of this has loaded."""
    found = _Found(3, ["users/s:ada"], b"")

    assert found == _Found.parse(bson.encode(bson.decode(found.dump()) | MORE))


def test_a_note_of_what_was_sent_may_have_more_words():
    """What MongoDB got last is known to the listener, which else takes our own change for a conflict."""
    noted = f"{Entry(1, Kind.DELETED).header} 5 {Entry(2, Kind.DELETED).header} 1".encode()

    assert Sent.read(noted) == Sent.read(noted + b" more") != None  # noqa: E711 - neither is
