"""Documents that Redis has and MongoDB has no more: others have deleted them, or it has lost them."""

from __future__ import annotations

import logging

import pytest
from bson import Int64

from tests.integration.conftest import flush_all
from tests.integration.reconcile.conftest import member
from writebehind.reconcile.entries import Vanished
from writebehind.reconcile.reconciler import MANY_VANISHED

MANY = MANY_VANISHED + 1


@pytest.fixture
def gone(pipeline, users, stored):
    """Has so many documents vanish of a number that are cached."""

    def vanish(count: int, of: int) -> list[str]:
        names = [f"u{n}" for n in range(of)]
        for name in names:
            users.put(name, {"name": name, "n": 1})
        flush_all(pipeline)
        stored.delete_many({"_id": {"$in": names[:count]}})
        return names[:count]

    return vanish


def cached(pipeline, names) -> int:
    """The number of entries that stand."""
    heads = pipeline.store.cache.headers([member(name) for name in names])
    return sum(bool(one.header) for one in heads)


@pytest.mark.parametrize(("count", "of"), [(MANY_VANISHED, MANY_VANISHED), (MANY, 10 * MANY)])
def test_a_few_were_deleted_by_others(pipeline, gone, count, of):
    """They are dropped, and nobody is told."""
    names = gone(count, of)
    found = pipeline.reconciler.make_pass()
    assert {"vanished": count} == found.found == found.repaired
    assert (0, 0) == (cached(pipeline, names), pipeline.status()["consistency"]["vanished"])


def test_many_may_be_lost(pipeline, gone, caplog):
    """They stand, by the periodic task too; the log says so once in a pass, and the status until it is decided."""
    names = gone(MANY, MANY + 5)
    for found in (pipeline.reconciler.make_pass(), pipeline.reconciler.make_pass()):
        assert ({"vanished": MANY}, {}) == (found.found, found.repaired)
    assert MANY == cached(pipeline, names)
    told = [one for one in caplog.records if getattr(one, "event", "") == "documents_vanished"]
    assert [logging.ERROR] * 2 == [one.levelno for one in told]
    status = pipeline.status()
    assert MANY == status["consistency"]["vanished"]
    [remedy] = [one for one in status["to_do"] if one["about"] == "vanished"]
    assert ("critical", True) == (remedy["severity"], "--vanished restore" in remedy["advice"])

    pipeline.reconciler.make_pass(vanished=Vanished.DROP)
    assert 0 == cached(pipeline, names)
    assert [] == [one for one in pipeline.status()["to_do"] if one["about"] == "vanished"]


def test_the_first_of_many_stand_too(pipeline, gone, caplog, monkeypatch):
    """A pass meets them a few at a time, as the periodic task does: what becomes of them is decided in its end."""
    monkeypatch.setattr("writebehind.reconcile.reconciler.SLICE", 5)
    names = gone(MANY, MANY)
    seen = []
    found = pipeline.reconciler.make_pass(report=lambda one: seen.append((one.keys, len(one.place.vanished))))
    assert ({"vanished": MANY}, {}) == (found.found, found.repaired)
    assert MANY == cached(pipeline, names)
    assert [0 < waiting < MANY for _, waiting in seen].count(True) > 1, seen
    assert ["documents_vanished"] == [one.event for one in caplog.records if hasattr(one, "event")]


def test_more_than_a_pass_sets_aside_are_left_to_the_next(pipeline, gone, monkeypatch):
    """None is dropped before the end, also where they are few of what was looked at so far."""
    monkeypatch.setattr("writebehind.reconcile.reconciler.SLICE", 5)
    monkeypatch.setattr("writebehind.reconcile.reconciler.MOST_SUSPECTS", 10)
    count = MANY_VANISHED
    names = gone(count, count)
    stands = []

    def see(one) -> None:
        if not one.place.scanned or one.place.suspects:
            stands.append(cached(pipeline, names))

    first = pipeline.reconciler.make_pass(report=see)
    assert {count} == {*stands}
    assert ({"vanished": count}, True) == (first.found, 0 < first.repaired["vanished"] < count)

    dropped = first.repaired["vanished"]
    while left := cached(pipeline, names):
        assert left == count - dropped
        dropped += pipeline.reconciler.make_pass().repaired["vanished"]


def test_what_is_back_by_the_end_of_the_pass_has_not_vanished(pipeline, users, gone, stored, monkeypatch):
    """Somebody has put it back meanwhile, or has written it anew: both stand, and are no drift."""
    monkeypatch.setattr("writebehind.reconcile.reconciler.SLICE", 5)
    gone(0, MANY_VANISHED)
    back, anew, *others = names = [f"u{n}" for n in range(MANY_VANISHED)]
    kept = stored.find_one({"_id": back})
    stored.delete_many({})

    def report(one):
        if len(one.place.vanished) == len(names):
            stored.replace_one({"_id": back}, kept, upsert=True)
            users.put(anew, {"n": 2})

    found = pipeline.reconciler.make_pass(report=report)
    assert {"vanished": len(others)} == found.found == found.repaired
    assert found.checked - len(others) == found.equal
    assert 2 == cached(pipeline, names)


def test_they_are_written_again(pipeline, users, gone, stored):
    """As Redis has them, with their versions; what others had written is not ours to write."""
    names = gone(MANY, MANY)
    stored.insert_one({"_id": "theirs", "n": 1})
    assert users.get("theirs")
    stored.delete_one({"_id": "theirs"})
    versions = {name: users.get(name)["n"] for name in names}
    found = pipeline.reconciler.make_pass(vanished=Vanished.RESTORE)
    assert ({"vanished": MANY + 1}, {"vanished": MANY}) == (found.found, found.repaired)
    flush_all(pipeline)
    assert versions == {one["_id"]: one["n"] for one in stored.find()}
    assert all(isinstance(one["_v"], int | Int64) for one in stored.find())


def test_the_command_says_what_may_be_done(run, gone, monkeypatch):
    """It keeps them, ends with 1, and names both ways."""
    monkeypatch.setenv("WRITEBEHIND_COLLECTIONS__users__lookup__name", "string")
    gone(MANY, MANY)
    done = run("reconcile", "--all")
    assert (1, True) == (
        done.exit_code,
        f"MongoDB has no more {MANY} documents: --vanished restore" in done.output,
    )
    wrong = run("reconcile", "--vanished", "drop")
    assert (2, True) == (wrong.exit_code, "add --all" in wrong.output)
    dropped = run("reconcile", "--all", "--vanished", "drop")
    assert (1, False) == (dropped.exit_code, "MongoDB has no more" in dropped.output)
    assert 0 == run("reconcile", "--all").exit_code
