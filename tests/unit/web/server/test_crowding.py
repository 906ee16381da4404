"""A process whose connections are nearly used up closes those that stand still, and no others."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from web import crowding
from web.crowding import Crowd, peer_of
from web.transfers import LEAST_RATE, Transfer

MOST = 8

pytestmark = pytest.mark.skipif(not crowding._FILES.is_dir(), reason="the system does not tell what is open")


class Clients:
    """Clients of a port, and the crowd that they are."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.crowd = Crowd(self._listener.getsockname()[1], MOST)

    def come(self, count: int) -> list[socket.socket]:
        """Connections of so many more."""
        came = []
        for _ in range(count):
            client = self._stack.enter_context(socket.create_connection(self._listener.getsockname()))
            self._stack.enter_context(self._listener.accept()[0])
            client.settimeout(0.05)
            came.append(client)
        return came

    def begin(self, client: socket.socket) -> Transfer:
        """A request of this client."""
        transfer = Transfer(60)
        self.crowd.begin(peer_of(client.getsockname()), transfer)
        return transfer


@pytest.fixture
def clients() -> Iterator[Clients]:
    with ExitStack() as stack:
        yield Clients(stack)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Whoever was seen before stands still."""
    monkeypatch.setattr(crowding, "STILL_S", 0.0)


def is_open(client: socket.socket) -> bool:
    try:
        return client.recv(1) != b""
    except TimeoutError:
        return True


def test_who_stands_still_may_while_there_is_room(clients):
    """Below the limit nobody is closed, however long it says nothing."""
    few = clients.come(MOST // 2)

    assert [0, 0] == [clients.crowd.make_room() for _ in range(2)]
    assert all(map(is_open, few))


def test_those_that_stand_still_for_longest_make_way(clients):
    """Half of the connections are left, the newest."""
    first = clients.come(6)
    clients.crowd._connections(map(str, range(1_000)))
    later = clients.come(2)

    assert 4 == clients.crowd.make_room()
    assert [False] * 4 + [True] * 2 == [is_open(one) for one in first]
    assert all(map(is_open, later))


def test_who_was_served_or_came_just_now_stays(clients, monkeypatch):
    """A moment without a request is no reason."""
    monkeypatch.setattr(crowding, "STILL_S", 60.0)
    clients.come(MOST)

    assert 0 == clients.crowd.make_room()


def test_whose_request_is_carried_out_stays(clients):
    """It waits for us; a client whose body is waited for goes first, and is not answered."""
    all_of_them = clients.come(MOST)
    transfers = [clients.begin(one) for one in all_of_them]
    for one in transfers[:6]:
        one.at_work = True

    assert 2 == clients.crowd.make_room()
    assert [True] * 6 + [False] * 2 == [is_open(one) for one in all_of_them]
    assert [False] * 6 + [True] * 2 == [one.given_up for one in transfers]


def test_who_has_finished_a_request_stands_behind_who_says_nothing(clients):
    """The end of its last request counts, not when it came."""
    served, *others = clients.come(MOST)
    clients.crowd._connections(map(str, range(1_000)))
    clients.begin(served)
    clients.crowd.end(peer_of(served.getsockname()))

    assert 4 == clients.crowd.make_room()
    assert is_open(served)
    assert 3 == sum(map(is_open, others))


def test_a_byte_now_and_then_is_as_good_as_nothing(clients, monkeypatch):
    """Who sends as much as is asked for has not stood still; who sends a byte has."""
    monkeypatch.setattr(crowding, "STILL_S", 1.0)
    all_of_them = clients.come(MOST)
    for at, one in enumerate(all_of_them):
        transfer = clients.begin(one)
        transfer.moved_at -= 10
        transfer.moved(1 if at < 2 else 10 * LEAST_RATE)

    assert 2 == clients.crowd.make_room()
    assert [False] * 2 + [True] * 6 == [is_open(one) for one in all_of_them]


def test_other_sockets_of_the_process_are_left_alone(clients):
    """Its own connections to servers, and the listener, are none of a client."""
    clients.come(MOST)
    ours = {one.peer for one in clients.crowd._connections(map(str, range(1_000)))}

    assert MOST == len(ours)
    with socket.create_connection(clients._listener.getsockname()):
        pass  # it listens still
