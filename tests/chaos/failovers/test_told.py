"""Which reports of lost writes are taken for right."""

from __future__ import annotations

import json
import threading

import pytest

from tests.chaos.failovers.keepers import Account, Document, Keeper, Promise, Write
from tests.chaos.failovers.told import Reports, Told
from writebehind.reconcile.losses import Fate

LATE, RECOMMITTED = Fate.LATE, Fate.RECOMMITTED


def reports(*named: Told, unknown: int = 0) -> Reports:
    found = Reports(named=list(named))
    found.fates[Fate.UNKNOWN] = unknown
    return found


def keeper(promise: Promise) -> Keeper:
    """One that has written once, as version 7."""
    one = Keeper("k", "http://127.0.0.1:9", 1, Account(), threading.Event())
    one.documents = [Document("k-1", [Write(None, Promise.KEPT), Write(1, promise, 7)])]
    return one


def test_lines_of_the_log_are_understood(tmp_path):
    """Only those of the event; documents of other collections count without a name."""
    log = tmp_path / "web.log"
    lost = {
        "event": "writes_lost",
        "message": "such as registers/s:k-1@7 (late), registers/s:k-2@9 (recommitted), counters/s:a@8 (late)",
        "late": 2,
        "recommitted": 1,
    }
    log.write_text("".join(json.dumps(one) + "\n" for one in ({"event": "ready"}, lost, lost)), "utf-8")

    found = Reports.read([log])

    assert {"late": 4, "recommitted": 2} == found.fates
    assert [Told("k-1", 7, LATE), Told("k-2", 9, RECOMMITTED)] * 2 == found.named


@pytest.mark.parametrize(
    ("told", "untold"),
    [
        (reports(), 1),
        (reports(Told("k-1", 7, LATE)), 0),
        (reports(Told("k-1", 8, LATE)), 0),  # which saw it
        (reports(Told("k-1", 6, LATE)), 1),
        (reports(Told("k-2", 7, LATE)), 1),
        (reports(Told("k-1", 7, RECOMMITTED)), 1),
        (reports(unknown=1), 0),
    ],
)
def test_each_lost_write_is_told(told, untold):
    """By its name or a later one's, or as one of so many that are not known."""
    assert untold == len(told.unreported([("k-1", 7)]))


@pytest.mark.parametrize(
    ("promise", "told", "there", "wrong"),
    [
        (Promise.BUFFERED, LATE, False, 0),
        (Promise.BUFFERED, LATE, True, 1),
        (Promise.BUFFERED, RECOMMITTED, True, 0),
        (Promise.KEPT, LATE, False, 1),
        (Promise.KEPT, RECOMMITTED, True, 1),
    ],
)
def test_none_that_survived_is_told(promise, told, there, wrong):
    """One that replicas had was lost by no failover, and one that is there is not lost in the end."""
    found = reports(Told("k-1", 7, told)).wrong([keeper(promise)], {"k-1": 1} if there else {})

    assert wrong == len(found)
