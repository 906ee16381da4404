"""What a client of failovers takes for a broken promise, and what not."""

from __future__ import annotations

import threading

import pytest

from tests.chaos.failovers.keepers import Account, Document, Keeper, Promise, Write

KEPT, BUFFERED, NONE = Promise.KEPT, Promise.BUFFERED, Promise.NONE


@pytest.fixture
def account() -> Account:
    return Account()


@pytest.fixture
def keeper(account) -> Keeper:
    return Keeper("k", "http://127.0.0.1:9", 1, account, threading.Event())


def written(*promises: tuple[int | None, Promise]) -> Document:
    one = Document("k-1")
    for version, (value, promise) in enumerate(promises, 1):
        one.writes.append(Write(value, promise, version))
    return one


@pytest.mark.parametrize(
    ("promises", "found", "lost"),
    [
        ([(1, KEPT), (2, KEPT)], 2, 0),
        ([(1, KEPT), (2, BUFFERED)], 2, 0),
        ([(1, KEPT), (2, BUFFERED)], 1, 1),  # which a failover may lose
        ([(1, KEPT), (2, BUFFERED), (3, BUFFERED)], 1, 2),
        ([(1, KEPT), (2, NONE)], 2, 0),  # nobody knows
        ([(1, KEPT), (2, NONE)], 1, 0),
        ([(1, BUFFERED)], None, 1),
        ([(1, KEPT), (None, KEPT)], None, 0),
        ([(1, KEPT), (None, BUFFERED)], 1, 1),
    ],
)
def test_what_may_be_found(keeper, account, promises, found, lost):
    """A write that was promised to outlive a failover, or any that was sent after it."""
    keeper.documents = [written(*promises)]

    assert lost == len(keeper.compare({} if found is None else {"k-1": found}))
    assert [] == account.violations


@pytest.mark.parametrize(
    ("promises", "found"),
    [
        ([(1, KEPT), (2, KEPT)], 1),  # stale
        ([(1, KEPT)], None),  # lost
        ([(1, KEPT), (None, KEPT)], 1),  # resurrected
        ([(1, BUFFERED), (2, KEPT)], 1),
        ([(1, KEPT), (None, KEPT), (3, KEPT)], None),
        ([(1, KEPT)], 7),  # which nobody has written
    ],
)
def test_what_may_not_be_found(keeper, account, promises, found):
    """What is older than a write that was promised to outlive a failover, or was never sent."""
    keeper.documents = [written(*promises)]

    keeper.compare({} if found is None else {"k-1": found})

    assert 1 == len(account.violations)


def test_documents_of_one_client_have_keys_of_their_own(keeper):
    """As many as it takes."""
    keeper.documents += [keeper._new() for _ in range(100)]

    assert len(keeper.documents) == len({one.key for one in keeper.documents})
