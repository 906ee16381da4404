"""Hints that a worker has lost: of which partitions, and until when."""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest

from tests.forking import in_child
from writebehind.celery import lost_hints
from writebehind.celery.lost_hints import LostHints
from writebehind.celery.names import FLUSH_QUEUE, MAINTENANCE_QUEUE
from writebehind.errors import RedisUnavailableError

IN_USE = range(4)


def consumer(queue: str = FLUSH_QUEUE) -> Any:
    """Celery's, with a connection of its own."""
    return SimpleNamespace(task_consumer=SimpleNamespace(consuming_from=lambda name: name == queue))


def replaced(lost: LostHints, away: Iterable[int] = ()) -> list[int]:
    """The partitions of which hints are sent, while the servers of some are away."""
    sent = []

    def hand_over(partitions: Iterable[int]) -> None:
        for one in partitions:
            if one in away:
                raise RedisUnavailableError(f"the server of {one} is away")
            sent.append(one)

    if away:
        with pytest.raises(RedisUnavailableError):
            lost.replace(IN_USE, hand_over)
    else:
        lost.replace(IN_USE, hand_over)
    return sent


def test_those_that_are_noted_are_replaced_once():
    """The same partition, noted twice, is one."""
    lost = LostHints()
    for one in (3, 1, 3):
        lost.note(one)

    assert [1, 3] == replaced(lost)
    assert [] == replaced(lost)


def test_what_a_child_notes_its_parent_replaces():
    """Flush tasks of a `prefork` pool run in children, also in those that are there no more."""
    lost = LostHints()
    lost.note(0)
    in_child(lambda: lost.note(2))
    in_child(lambda: lost.note(3))

    assert [0, 2, 3] == replaced(lost)
    assert [] == in_child(lambda: replaced(lost))


def test_another_connection_has_lost_those_of_all_partitions():
    """The first one too: the worker before may have been killed. The same one has lost none."""
    lost, one = LostHints(), consumer()

    assert lost.look_at(one)
    assert [*IN_USE] == replaced(lost)
    assert lost.look_at(one)
    assert [] == replaced(lost)
    one.task_consumer = consumer().task_consumer
    assert lost.look_at(one)
    assert [*IN_USE] == replaced(lost)


@pytest.mark.parametrize("one", [None, SimpleNamespace(task_consumer=None), consumer(MAINTENANCE_QUEUE)])
def test_who_takes_no_hints_has_lost_none(one):
    """A worker of other queues, and one without a connection."""
    lost = LostHints()

    assert not lost.look_at(one)
    assert [] == replaced(lost)


def test_a_server_that_is_away_is_left_for_later():
    """The partitions of others are replaced meanwhile, and no more than once."""
    lost = LostHints()
    lost.note()

    assert [1, 3] == replaced(lost, away=(0, 2))
    assert [2] == replaced(lost, away=(0,))
    assert [0] == replaced(lost)


def test_a_server_that_hangs_does_not_hold_the_worker_up(monkeypatch):
    """After some time the rest is left for later, and comes first then."""
    times = iter((0.0, 0.0, lost_hints.SENDS_FOR_S))
    monkeypatch.setattr(lost_hints, "time", SimpleNamespace(monotonic=lambda: next(times, 0.0)))
    lost = LostHints()
    lost.note()

    assert [] == replaced(lost, away=(0,))
    assert [1, 2, 3, 0] == replaced(lost)


def test_a_broker_that_takes_none_is_asked_once():
    """The others are not given tickets whose hints would be lost as well."""
    lost, tried = LostHints(), []

    def hand_over(partitions: Iterable[int]) -> None:
        tried.extend(partitions)
        lost.note(*partitions)

    lost.note()
    lost.replace(IN_USE, hand_over)

    assert [0] == tried
    assert [*IN_USE] == sorted(replaced(lost))


def test_an_error_of_the_program_forgets_none():
    """It is raised; the partition of which it is comes last at the next call."""
    lost = LostHints()
    lost.note()

    def hand_over(partitions: Iterable[int]) -> None:
        if 1 in partitions:
            raise LookupError("a fault of the program")

    with pytest.raises(LookupError):
        lost.replace(IN_USE, hand_over)
    assert [2, 3, 1] == replaced(lost)
