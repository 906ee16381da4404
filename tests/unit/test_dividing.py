"""What a process knows of a number of partitions that grows, without servers."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from writebehind.errors import RedisUnavailableError
from writebehind.operations.growth import exposed
from writebehind.redis.keys import Layout, View
from writebehind.redis.topology import lookout
from writebehind.redis.topology.dividing import Dividing
from writebehind.redis.topology.lookout import LOOK_EVERY_S, Lookout


@pytest.fixture
def clock(monkeypatch) -> SimpleNamespace:
    """The steady clock of looks."""
    made = SimpleNamespace(now=100.0)
    monkeypatch.setattr(lookout, "time", SimpleNamespace(monotonic=lambda: made.now))
    return made


def test_what_is_known_is_as_old_as_the_question(clock):
    """And not as its answer, which a process that was stopped may read much later."""

    def look() -> None:
        clock.now += 60

    one = Lookout(Layout(4), look)
    one.look()
    assert 100.0 + LOOK_EVERY_S == one.due
    one.look()
    assert 160.0 + LOOK_EVERY_S == one.due


def test_it_is_asked_again_soon_where_redis_does_not_answer(clock):
    """What it would have said is known late else."""
    answers = iter([RedisUnavailableError("away"), None])

    def look() -> None:
        if error := next(answers):
            raise error

    one = Lookout(Layout(4), look)
    one.look()
    assert clock.now < one.due < clock.now + LOOK_EVERY_S / 2
    clock.now += 1
    one.look()
    assert clock.now + LOOK_EVERY_S == one.due


def test_who_keeps_up_with_nothing_never_looks():
    """It has no number to look at."""
    one = Lookout(Layout(4))
    one.look()
    assert one.due == float("inf")


def test_a_server_that_is_away_takes_no_other_along():
    """What was known of its partitions counts meanwhile, and nothing of another change."""
    away = RedisUnavailableError("away")
    answers = [b"16", 0, b"16", 0, away, away, b"16", 1]
    inner = SimpleNamespace(outage=None, exchange=lambda _commands: answers)
    layout = Layout(4)
    one = Dividing(inner, layout)

    one.learn(4, 16, begins=True)
    assert View(4, 16, frozenset((0, 1))) == layout.view
    answers = [away, away, b"16", 0, b"16", 0, None, 0]
    one.learn(4, 16)
    assert View(4, 16, frozenset((0, 1, 2))) == layout.view
    answers = [away, away, b"16", 0, b"16", 0, b"64", 0]
    one.learn(4, 64)
    assert View(4, 64, frozenset((3,))) == layout.view


@pytest.mark.parametrize(
    ("nodes", "found"),
    [
        pytest.param(
            {"a": ("everysec", 0), "b": ("always", 0), "c": ("everysec", 1)}, ["a"], id="one of a cluster"
        ),
        pytest.param({"a": ("no", 0), "b": (None, 0)}, ["a"], id="one does not say"),
        pytest.param({"": ("everysec", 0)}, [], id="one server, whose file has both"),
    ],
)
def test_nodes_that_could_lose_what_they_are_given_are_known(nodes, found):
    """What moves to another node leaves a file that has it for one that may not yet."""
    place = "ip=127.0.0.1,port=1,state=online"
    store = SimpleNamespace(
        facts=lambda: {one: {"connected_slaves": str(n), "slave0": place} for one, (_, n) in nodes.items()},
        configured=lambda _: {one: fsync for one, (fsync, _) in nodes.items()},
    )
    assert found == exposed(SimpleNamespace(store=store))
