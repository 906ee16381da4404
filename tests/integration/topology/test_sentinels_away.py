"""Sentinels that hang, refuse to answer or are none: the others are asked, and nobody waits for long."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import kombu.pools
import pytest

from tests.servers import freeze, http_server, resume
from tests.topologies import SERVICE, Sentinels
from tests.waiting import slowness
from writebehind import load_settings
from writebehind.celery.configuration import create_app
from writebehind.celery.publisher import publish
from writebehind.errors import RedisUnavailableError
from writebehind.redis.pending import Hint
from writebehind.redis.topology.opening import open_servers
from writebehind.redis.topology.sentinels import ASKED_S
from writebehind.redis.wire import Wire

TIMEOUT_MS = 2_000
#: Time for what is done beside waits, on a machine that has some, seconds.
ELSE_S = 0.4
#: kombu connects twice before it publishes, with Sentinels of their own.
OF_KOMBU = 2


@pytest.fixture(scope="module")
def watched(tmp_path_factory) -> Iterator[Sentinels]:
    with Sentinels(tmp_path_factory.mktemp("watched")) as sentinels:
        yield sentinels


@pytest.fixture
def wire(watched) -> Iterator[Wire]:
    """A wire of a process that has asked no Sentinel yet."""
    wire = Wire(open_servers(watched.url, TIMEOUT_MS))
    yield wire
    wire.close()


@pytest.fixture
def hang(watched) -> Iterator[Callable[[int], None]]:
    """Lets the first Sentinels of the URL hang, so many of three."""
    with ExitStack() as undo:

        def some(count: int) -> None:
            for one in watched.sentinels[:count]:
                freeze(one)
                undo.callback(resume, one)

        yield some


def took_s(wire: Wire) -> float:
    """The time that a read takes over a connection that is opened for it."""
    wire.close()
    began = time.monotonic()
    wire.call("GET", "nothing")
    return time.monotonic() - began


@pytest.mark.parametrize("count", [1, 2])
def test_one_that_hangs_is_waited_for_once(wire, hang, count):
    """The first connection of a process waits a moment for each, and the next ones for none."""
    hang(count)
    first, *later = [took_s(wire) for _ in range(3)]
    assert first < count * ASKED_S + ELSE_S * slowness()
    assert max(later) < ELSE_S * slowness()


def test_one_that_begins_to_hang_is_asked_last(wire, hang):
    """Also where it has answered before: then the one that answered in its place is asked first."""
    assert took_s(wire) < ELSE_S * slowness()
    hang(1)
    first, *later = [took_s(wire) for _ in range(3)]
    assert first < ASKED_S + ELSE_S * slowness()
    assert max(later) < ELSE_S * slowness()


def test_nobody_is_held_for_longer_than_redis_may_take(watched, hang):
    """Where all of them hang, and the URL names many."""
    hang(3)
    hosts = ",".join(2 * [f"127.0.0.1:{one.port}" for one in watched.sentinels])
    many = Wire(open_servers(f"redis+sentinel://{hosts}/{SERVICE}/0", TIMEOUT_MS))
    began = time.monotonic()
    with pytest.raises(RedisUnavailableError, match="no answer came in time"):
        many.call("GET", "nothing")
    assert time.monotonic() - began < TIMEOUT_MS / 1000 + ELSE_S * slowness()


@pytest.fixture(params=["no Redis", "no Sentinel", "refuses"])
def foreign(request, watched) -> Iterator[str]:
    """A URL whose first address answers something else than a Sentinel does."""
    first, *others = watched.sentinels
    with ExitStack() as undo:
        port = first.port
        if request.param == "no Redis":
            port = undo.enter_context(http_server())
        elif request.param == "no Sentinel":
            port = watched.primary.port
        else:
            first.ask("ACL", "SETUSER", "default", "-sentinel")
            undo.callback(first.ask, "ACL", "SETUSER", "default", "+@all")
        hosts = ",".join(f"127.0.0.1:{one}" for one in (port, *(other.port for other in others)))
        yield f"redis+sentinel://{hosts}/{SERVICE}/0"


def test_one_that_is_none_counts_as_away(foreign):
    """The others are asked, for the pipeline and for Celery's hints: one made Redis unusable, for all."""
    wire = Wire(open_servers(foreign, TIMEOUT_MS))
    assert wire.call("GET", "nothing") is None
    wire.close()
    kombu.pools.reset()
    with create_app(load_settings(redis_url=foreign)) as app:
        publish(app, Hint(0, "ticket", 0))
    kombu.pools.reset()


def test_each_reason_is_told(watched, foreign):
    """Where none is left that names a primary, the error says what each address answers."""
    place = foreign.partition("://")[2].partition(",")[0]
    alone = Wire(open_servers(f"redis+sentinel://{place}/{SERVICE}/0", TIMEOUT_MS))
    words = "is no Redis: Protocol error|unknown command|no permissions"
    with pytest.raises(RedisUnavailableError, match=f"Sentinel {place} does not answer: .*({words})"):
        alone.call("GET", "nothing")


def test_a_service_that_no_sentinel_knows_is_told(watched, hang):
    """Also after a wait, and to those that nobody asks for meanwhile: it said that no answer came in time."""
    hang(1)
    wire = Wire(open_servers(watched.url.replace(f"/{SERVICE}/", "/another/"), TIMEOUT_MS))
    for _ in range(2):
        with pytest.raises(RedisUnavailableError, match="Sentinels know no 'another': name the service in REDIS_"):
            wire.call("GET", "nothing")


@pytest.mark.parametrize("count", [1, 2])
def test_hints_wait_for_none_that_hangs(watched, hang, count):
    """Also Celery's broker asks each once: it was asked up to eleven times, with pauses in between."""
    kombu.pools.reset()
    hang(count)
    with create_app(load_settings(redis_url=watched.url, redis_timeout_ms=TIMEOUT_MS)) as app:
        began = time.monotonic()
        publish(app, Hint(0, "ticket", 0))
        assert time.monotonic() - began < OF_KOMBU * count * ASKED_S + ELSE_S * slowness()
    kombu.pools.reset()
