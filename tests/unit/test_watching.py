"""`up` says that the API does not answer, and that it does again."""

from __future__ import annotations

import pytest

from writebehind.local.watching import AGAIN_S, EVERY_S, STARTS_WITHIN_S, ApiWatch, StoppedWatch
from writebehind.operations.probing import REFUSED


class Api:
    """An API whose answers the test decides, and the watch over it."""

    def __init__(self):
        self.now, self.silences, self.stopped, self.said = 100.0, [], [], []
        self.watch = ApiWatch(lambda: self.silences, lambda: self.stopped, self.said.append, lambda: self.now)

    def look(self, after_s):
        self.now += after_s
        self.watch.look()


@pytest.fixture
def api():
    return Api()


def test_a_silence_lasts_from_the_last_answer(api):
    """It began before it was seen: the last answer is what is known."""
    api.look(EVERY_S)
    api.silences = ["timed out"]
    api.look(EVERY_S)
    api.look(AGAIN_S)
    api.silences = []
    api.look(8)

    assert ["leaves requests without an answer: timed out" in api.said[0], 2] == [True, len(api.said)]
    assert f"the API answers again, {EVERY_S + AGAIN_S + 8:.0f} s after its last answer" == api.said[1]


def test_refused_connections_are_told_once_no_start_explains_them(api):
    """A process that was ended is started anew meanwhile; one that never comes is a silence."""
    api.silences = [REFUSED]
    api.look(EVERY_S)
    assert ([], AGAIN_S) == (api.said, api.watch.due_s)
    api.look(STARTS_WITHIN_S - EVERY_S)

    (line,) = api.said
    assert REFUSED in line


def test_a_stopped_process_is_named_at_once(api):
    """Refused connections do not end by themselves then."""
    api.silences, api.stopped = [REFUSED], [7]
    api.look(EVERY_S)

    (line,) = api.said
    assert "process 7 is stopped, `kill -CONT 7` lets it go on" in line


def test_a_stopped_parent_is_named_though_its_children_answer(api):
    """It starts nothing anew; that is said once."""
    api.stopped = [7]
    api.look(EVERY_S)
    api.look(EVERY_S)

    (line,) = api.said
    assert "`kill -CONT 7`" in line


def test_a_process_that_is_stopped_later_is_named_too(api):
    """A silence that was told without a cause gets one."""
    api.silences = ["timed out"]
    api.look(EVERY_S)
    api.stopped = [7]
    api.look(AGAIN_S)
    api.look(AGAIN_S)

    assert ["timed out" in api.said[0], "process 7 is stopped" in api.said[1], 2] == [True, True, len(api.said)]


def test_each_process_that_is_stopped_is_told_once():
    """Also several at once, which watch one another; and that they are no more."""
    stopped, said = {"beat": [7], "exporter": [8, 9], "worker": []}, []
    watch = StoppedWatch(lambda: stopped, said.append)
    watch.look()
    watch.look()
    assert [
        "process 7 of beat is stopped: `kill -CONT 7` lets it go on",
        "process 8 of exporter is stopped: `kill -CONT 8` lets it go on",
        "process 9 of exporter is stopped: `kill -CONT 9` lets it go on",
    ] == sorted(said)
    said.clear()
    stopped["exporter"] = [9]
    watch.look()
    assert ["process 8 of exporter is stopped no more"] == said
