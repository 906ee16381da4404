"""The account itself: each kind of broken promise is seen, and what is no breach is not."""

from __future__ import annotations

from math import inf

import pytest

from tests.chaos.history import History
from tests.chaos.linearizable import Operation


def history(*steps: tuple) -> History:
    """A history of one document, `k`: writes with a version, or without an answer, and reads by one client."""
    made = History()
    for at, (what, value, *version) in enumerate(steps):
        if what == "read":
            made.note("read", "k", Operation("read", at, at + 0.5, value))
            made.reads[1, "k"].append(value)
        elif version:
            made.note("acknowledged", "k", Operation("write", at, at + 0.5, value), version[0])
        else:
            made.note("unknown", "k", Operation("write", at, inf, value))
    return made


def kinds(made: History, document: dict | None) -> set[str]:
    documents = {"k": document} if document else {}
    return {one.kind for one in made.violations(documents, {}, 100.0)}


@pytest.mark.parametrize(
    ("steps", "document"),
    [
        ([("write", "a", 1)], {"v": "a", "_v": 1}),
        ([("write", "a", 1), ("write", "b")], {"v": "a", "_v": 1}),
        ([("write", "a", 1), ("write", "b")], {"v": "b", "_v": 2}),
        ([("write", "a", 1), ("write", None, 2)], None),
        ([("write", "a", 1), ("write", None)], None),
        ([("write", "a")], None),
        ([("write", "a", 1), ("read", "a"), ("write", "b", 2), ("read", "b")], {"v": "b", "_v": 2}),
    ],
)
def test_nothing_is_wrong(steps, document):
    """What was acknowledged is there, and what was not answered may be."""
    assert set() == kinds(history(*steps), document)


@pytest.mark.parametrize(
    ("steps", "document", "kind"),
    [
        ([("write", "a", 1)], None, "lost"),
        ([("write", "a", 1), ("write", "b", 2)], {"v": "a", "_v": 1}, "stale"),
        ([("write", "a", 1)], {"v": "b", "_v": 1}, "stale"),
        ([("write", "a", 1), ("write", None, 2)], {"v": "a", "_v": 1}, "resurrected"),
        (
            [("write", "a", 1), ("write", "b", 2), ("read", "b"), ("read", "a")],
            {"v": "b", "_v": 2},
            "backwards",
        ),
        ([("write", "a", 1), ("read", None)], {"v": "a", "_v": 1}, "not linearizable"),
        ([("write", "a", 1), ("write", "b", 2), ("read", "a")], {"v": "b", "_v": 2}, "not linearizable"),
    ],
)
def test_a_broken_promise(steps, document, kind):
    """Each kind has its name."""
    assert kind in kinds(history(*steps), document)


@pytest.mark.parametrize(
    ("results", "stored", "wrong"),
    [
        ([1, 2, 3], 3, False),
        ([1, 2, 3], 2, True),
        ([1, 3], 3, True),
        ([1, 2, 2], 3, True),
    ],
)
def test_counters(results, stored, wrong):
    """A counter is the number of its increments, of which each was answered."""
    made = History()
    for result in results:
        made.increment("k", result)
    assert wrong == bool(made.violations({}, {"k": stored}, 100.0))


def test_a_lookup_that_misleads():
    """It is in the account."""
    made = history(("write", "a", 1))
    made.misled("name", "nothing is found")

    assert {"misled"} == kinds(made, {"v": "a", "_v": 1})
