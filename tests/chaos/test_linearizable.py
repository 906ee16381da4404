"""The checker itself: histories that are explained by an order, and such as are not."""

from __future__ import annotations

import random
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.linearizable import Operation, is_linearizable


def write(value, began, ended):
    return Operation("write", began, ended, value)


def read(value, began, ended):
    return Operation("read", began, ended, value)


def swap(expected, value, began, ended):
    return Operation("swap", began, ended, value, expected)


@pytest.mark.parametrize(
    "history",
    [
        [],
        [read(None, 0, 1)],
        [write("a", 0, 1), read("a", 2, 3)],
        [write("a", 0, 5), read(None, 1, 2), read("a", 3, 4)],
        [write("a", 0, 5), write("b", 0, 5), read("b", 1, 2), read("a", 3, 4)],
        [write("a", 0, 1), write(None, 2, 3), read(None, 4, 5)],
        [write("a", 0, inf), read("a", 9, 10)],
        [write("a", 0, inf), read(None, 9, 10)],
        [write("a", 0, 1), write(None, 2, inf), read("a", 3, 4), read(None, 5, 6)],
        [write("a", 0, 1), swap("a", "b", 2, 3), read("b", 4, 5)],
        [write("a", 0, 1), swap("a", "b", 2, inf), read("b", 4, 5)],
        [write("a", 0, 1), swap("a", "b", 2, 6), swap("b", "c", 2, 6), read("c", 7, 8)],
    ],
)
def test_good(history):
    """There is an order that explains what was read."""
    assert is_linearizable(history)


@pytest.mark.parametrize(
    "history",
    [
        [read("a", 0, 1)],
        [write("a", 0, 1), read(None, 2, 3)],
        [write("a", 0, 1), write("b", 2, 3), read("a", 4, 5)],
        [write("a", 0, 9), read("a", 1, 2), read(None, 3, 4)],
        [write("a", 0, 5), write("b", 0, 5), read("a", 6, 7), read("b", 8, 9)],
        [write("a", 0, 1), write(None, 2, 3), read("a", 4, 5)],
        [write("a", 5, inf), read("a", 1, 2)],
        [write("a", 0, inf), read("a", 1, 2), read(None, 3, 4)],
        [write("a", 0, 1), swap("a", "b", 2, 3), swap("a", "c", 4, 5)],
        [write("a", 0, 1), swap("b", "c", 2, 3)],
    ],
)
def test_bad(history):
    """No order explains a lost write, a stale read, one that goes back, or a swap of what was not there."""
    assert not is_linearizable(history)


def test_versions_are_an_order():
    """Of two writes at the same time, the one with the smaller version came first."""
    first, second = (Operation("write", 0, 5, value, version=version) for value, version in (("a", 1), ("b", 2)))
    assert is_linearizable([first, second, read("b", 6, 7)])
    assert not is_linearizable([first, second, read("a", 6, 7)])


def test_many_unknown_operations():
    """A long history with many unanswered operations is decided soon, whether it is good or bad."""
    good = [
        one
        for at in range(0, 300, 3)
        for one in (write(f"u{at}", at, inf), write(f"v{at}", at, at + 2.5), read(f"v{at}", at + 2.6, at + 2.9))
    ]
    good += [write(None, at, inf) for at in range(0, 300, 50)]
    assert is_linearizable(good)
    assert not is_linearizable([*good, read("v3", 280, 281)])


@given(st.integers(0, 10_000))
def test_what_happened_in_some_order_is_found(seed):
    """A history that is made from an order is explained, and is not when a read is made to show an older value."""
    dice = random.Random(seed)
    history, state, values = [], None, []
    for at in range(30):
        began, ended = at - dice.random() * 3, at + dice.random() * 3
        if dice.random() < 0.5:
            state = f"v{at}"
            values.append(state)
            history.append(write(state, began, ended))
        else:
            history.append(read(state, began, ended))
    assert is_linearizable(history)
    assert not is_linearizable([*history, read("nobody wrote this", 0, 1)])
    if len(values) > 1:
        assert not is_linearizable([*history, read(values[0], 99, 100), read(state, 101, 102)])
