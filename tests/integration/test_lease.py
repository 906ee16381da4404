"""Leases."""

from __future__ import annotations

import pytest

from tests.waiting import wait_until
from writebehind.redis.shared.lease import Lease
from writebehind.redis.wire import Wire

KEY, NOTE = "wb:lease:{wb:note}", "wb:note"


@pytest.fixture
def one(wire: Wire) -> Lease:
    return Lease(wire, KEY, 5_000)


@pytest.fixture
def other(wire: Wire) -> Lease:
    return Lease(wire, KEY, 5_000)


def test_one_at_a_time(wire, one, other):
    """One has it, until it gives it back; only whoever has it keeps it."""
    assert (True, False, True) == (one.take(), other.take(), one.take())
    other.release()
    assert (True, False) == (one.renew(), other.renew())
    wire.call("PEXPIRE", KEY, 100)
    assert one.renew()
    assert 4_000 < wire.call("PTTL", KEY) <= 5_000
    one.release()
    assert (False, True) == (one.renew(), other.take())


def test_it_runs_out(wire, other):
    """Whoever is not heard of is succeeded."""
    assert Lease(wire, KEY, 50).take()
    wait_until(other.take, "the end of the lease")


def test_what_is_noted(wire, one, other):
    """Only whoever has had it all the time notes anything: what has been done meanwhile is not overwritten."""
    assert (False, None) == (one.renew(NOTE, b"early"), wire.call("GET", NOTE))
    assert one.take()
    assert one.renew(NOTE, b"first")
    wire.call("DEL", KEY)  # it ran out
    assert other.take()
    assert other.renew(NOTE, b"second")
    other.release()
    assert not one.renew(NOTE, b"late")
    assert b"second" == wire.call("GET", NOTE)


def test_one_without_an_end_is_nobodys(wire, one):
    """A lease that somebody has put there by hand keeps nobody away for ever."""
    wire.call("SET", KEY, "somebody")
    assert one.take()
