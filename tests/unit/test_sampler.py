"""Samples of several servers: a thread takes the next one, and whoever needs it finds out why there is none."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from tests.waiting import wait_until
from writebehind.errors import ConfigurationError, RedisUnavailableError
from writebehind.redis.shared.load_sample import MOST_TIMES, SAMPLE_EVERY_S, Sampler


@pytest.mark.parametrize("error", [RedisUnavailableError("away"), ConfigurationError("another one")], ids=repr)
def test_what_a_thread_meets_is_said_to_whoever_needs_a_sample(error):
    """No request waits as long as the last one will do, and no traceback of a thread stands in its place."""
    taken = []

    def take():
        taken.append(threading.current_thread().name)
        if len(taken) > 1:
            raise error
        return SimpleNamespace(servers={"a": None, "b": None})

    sampler = Sampler(take, lambda _: None)
    first = sampler.look()
    sampler._taken -= 2 * SAMPLE_EVERY_S

    assert sampler.look() is first
    wait_until(lambda: len(taken) == 2 and not named("load-sample"), "the thread to have tried")
    assert "load-sample" == taken[1]
    assert sampler.look() is first
    sampler._taken -= MOST_TIMES * SAMPLE_EVERY_S
    with pytest.raises(type(error)):
        sampler.look()


def named(name: str) -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name == name]
