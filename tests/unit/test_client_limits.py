"""Limits of clients: rates and concurrency in one process, and what processes learn from each other."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator

import pytest

from writebehind.access import limits
from writebehind.access.limits import SHARED_FROM_MS, Client, Clients, Limit, Refusal
from writebehind.errors import RedisUnavailableError
from writebehind.redis.shared.spending import LONGEST_MS, Spent


class Clock:
    """A clock that a test moves, seconds."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s * 1_000


class Together:
    """What Redis does: see `spend.lua`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._at: dict[str, float] = {}
        self.is_away = False
        self.told: list[Spent] = []

    def note(self, spent: Iterable[Spent]) -> Iterator[float]:
        if self.is_away:
            raise RedisUnavailableError("away")
        for one in spent:
            self.told.append(one)
            since = self._clock() - one.since_ms
            self._at[one.name] = max(self._at.get(one.name, since), since) + one.cost_ms
            yield self._at[one.name] - self._clock()


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(limits, "_now_ms", clock)
    return clock


@pytest.fixture
def together(clock) -> Together:
    return Together(clock)


def client_of(clients: Clients, address: str = "192.0.2.1") -> Client:
    client = clients.of_address(address)
    assert client is not None
    return client


def served(clients: Clients, client: Client, most: int = 1_000_000) -> int:
    """How many requests are let in, one after the other, until one is not."""
    for number in range(most):
        if clients.begin(client):
            return number
        clients.end(client)
    return most


def test_a_client_has_its_quota_at_once_and_then_its_rate(clock, together):
    """What it did not use comes back, up to the quota."""
    clients = Clients(Limit(10, 2), together)
    client = client_of(clients)

    assert (20, 0) == (served(clients, client), client.left)
    clock.now_s += 0.5
    assert 5 == served(clients, client)
    clock.now_s += 100
    assert (20, 20) == (client.left, served(clients, client))
    assert 2 == client.full_in_s
    assert 20 == served(clients, client_of(clients, "192.0.2.2"))


def test_a_refused_client_learns_when_to_come_again(clock, together):
    """It is served then, and not before."""
    clients = Clients(Limit(0.5, 2), together)
    client = client_of(clients)

    assert None is clients.begin(client)
    clock.now_s += 0.5
    assert Refusal("rate", 2) == clients.begin(client)
    clock.now_s += 1.4
    assert Refusal("rate", 1) == clients.begin(client)
    clock.now_s += 0.1
    assert None is clients.begin(client)


def test_further_items_are_paid_for_later(clock, together):
    """A request that was let in is served, also one of more items than the quota; then the client waits."""
    clients = Clients(Limit(10, 1), together)
    client = client_of(clients)

    assert None is clients.begin(client)
    clients.spend(client, 99)
    assert Refusal("rate", 10) == clients.begin(client)
    clock.now_s += 9.1
    assert 1 == served(clients, client)
    clients.spend(client, 10**12)
    assert LONGEST_MS / 1000 == client.full_in_s


def test_requests_at_a_time_are_limited(clock, together):
    """One that ends makes room for the next one, and those of others count for themselves."""
    clients = Clients(Limit(concurrency=2), together)
    client = client_of(clients)

    assert [None, None, Refusal("concurrency")] == [clients.begin(client) for _ in range(3)]
    assert None is clients.begin(client_of(clients, "192.0.2.2"))
    clients.end(client)
    assert [None, Refusal("concurrency")] == [clients.begin(client) for _ in range(2)]


def test_without_limits_nobody_is_known(together):
    """It costs nothing."""
    clients = Clients(Limit(), together)

    assert (None, None, 0) == (clients.of_address("192.0.2.1"), clients.of_key("a"), len(clients))


def test_a_key_may_have_a_rate_of_its_own(clock, together):
    """It holds as soon as it is known, in the place of that of the settings; 0 for none."""
    clients = Clients(Limit(10, 1, concurrency=5), together)

    assert [10, 3] == [served(clients, clients.of_key(one, rate)) for one, rate in (("a", None), ("b", 3))]
    assert 100 == served(clients, clients.of_key("c", 0), 100)
    assert Limit(7, 1, 5) == clients.of_key("b", 7).limit
    assert None is Clients(Limit(10, 1), together).of_key("d", 0)
    assert 3 == served(clients, Clients(Limit(), together).of_key("e", 0.3))


def test_a_key_may_have_a_concurrency_of_its_own(clock, together):
    """In the place of that of the settings, also where these have none; 0 for any number."""
    clients = Clients(Limit(0, 1, concurrency=5), together)

    assert Limit(0, 1, 2) == clients.of_key("a", None, 2).limit
    assert Limit(7, 1, 2) == clients.of_key("a", 7, 2).limit
    assert None is clients.of_key("b", None, 0)
    one = Clients(Limit(), together).of_key("c", None, 1)
    assert [None, Refusal("concurrency")] == [clients.begin(one), clients.begin(one)]


def test_processes_together_hold_a_rate(clock, together):
    """However a client spreads its requests, it gets its rate in the long run, and more before it is known."""
    limit = Limit(100, 1)
    processes = [Clients(limit, together) for _ in range(4)]
    ones = [client_of(one) for one in processes]

    def second() -> int:
        """All of them are asked as often as they let in, and tell each other at its end."""
        total = 0
        for _ in range(100):
            clock.now_s += 0.01
            total += sum(served(one, client) for one, client in zip(processes, ones, strict=True))
        for one in processes:
            one.share()
        return total

    first = [second() for _ in range(8)]
    later = sum(second() for _ in range(20))

    assert first[0] > 4 * 100  # nobody knows of the others yet
    assert min(first) < 10  # as they have paid for it
    assert later <= 20 * 100 + 4 * 100 + 100
    assert later >= 0.75 * 20 * 100


def test_a_client_that_keeps_to_its_rate_is_never_refused(clock, together):
    """Also where its requests go to several processes, and they tell each other."""
    processes = [Clients(Limit(100, 1), together) for _ in range(2)]
    ones = [client_of(one) for one in processes]

    for number in range(3_000):
        clock.now_s += 0.01
        at = number % 2
        assert None is processes[at].begin(ones[at]), number
        processes[at].end(ones[at])
        if number % 100 == 99:
            for one in processes:
                one.share()


def test_who_spends_little_is_told_of_only_as_it_adds_up(clock, together):
    """Millions of addresses with a request each make no work for Redis."""
    clients = Clients(Limit(100, 1), together)
    for number in range(50):
        served(clients, client_of(clients, f"192.0.2.{number}"), 1)
    clients.share()
    assert [] == together.told

    served(clients, client_of(clients, "192.0.2.7"), 6)
    clock.now_s += 1
    clients.share()
    assert [("address 192.0.2.7", 1_000.0, 70.0)] == together.told
    assert SHARED_FROM_MS <= 70

    clock.now_s += 60
    clients.share()
    assert set() == clients._untold


def test_while_redis_is_away_each_process_decides(clock, together):
    """What was spent meanwhile is not held against anybody when it is back."""
    clients = Clients(Limit(10, 1), together)
    client = client_of(clients)
    together.is_away = True

    for _ in range(60):
        served(clients, client)
        with pytest.raises(RedisUnavailableError):
            clients.share()
        clock.now_s += 1
    together.is_away = False

    assert 10 == served(clients, client)
    clients.share()
    clock.now_s += 1
    assert 10 == served(clients, client)


def test_watching_goes_on_while_redis_is_away(together, monkeypatch):
    """Who watches looks again a second later, until it is to stop."""
    monkeypatch.setattr(limits, "SHARE_EVERY_S", 0.001)
    clients = Clients(Limit(10, 1), together)
    together.is_away = True
    watch = threading.Thread(target=clients.watch, args=(stop := threading.Event(),))
    watch.start()
    together.is_away = False
    client = client_of(clients)
    while not together.told:
        clients.begin(client)
    stop.set()
    watch.join(10)

    assert not watch.is_alive()


def test_addresses_are_bounded(clock, together):
    """Those that came last are known; keys are never forgotten for them."""
    clients = Clients(Limit(10, 1), together, most_addresses=100)
    key = clients.of_key("a")
    served(clients, key)
    busy = client_of(clients, "busy")
    served(clients, busy)

    for number in range(1_000):
        client_of(clients, f"{number}")
        assert busy is client_of(clients, "busy")
        assert len(clients) <= 102

    assert key is clients.of_key("a")
    assert 0 == served(clients, key)


def test_a_fork_knows_nobody_of_its_parent(clock, together):
    """It has no requests of theirs at work."""
    clients = Clients(Limit(concurrency=1), together)
    clients.begin(client_of(clients))
    clients.begin_anew()

    assert (0, None) == (len(clients), clients.begin(client_of(clients)))
