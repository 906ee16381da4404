"""Round trips of an event loop over one connection: each gets its own answer, or is known not to have one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random

import pytest

from tests.integration.hanging import TIMEOUT_MS, pipeline, way
from tests.sizes import LIMIT
from tests.waiting import wait_until
from writebehind import connect
from writebehind.access.keyring import Keyring
from writebehind.access.keys import Token, new_id
from writebehind.collection import Collection
from writebehind.deadline import NEVER_WAITS, WouldWaitError
from writebehind.documents.ids import DocumentId
from writebehind.errors import MistypedKeyError, PartitionFullError, RedisUnavailableError
from writebehind.redis.lanes import Lanes
from writebehind.redis.round_trip import RoundTrip, UndecidedError

__all__ = ["pipeline", "way"]  # fixtures

pytestmark = pytest.mark.one_server("a proxy stands before one port")

MOST_BYTES = 16_384
WITHIN_S = 20


@pytest.fixture
def users(pipeline) -> Collection:
    users = pipeline.collection("users")
    users.put("known", {"n": 0})  # from now on it is known how Redis is
    return users


def made(users: Collection, make: Callable[[], RoundTrip | None]) -> RoundTrip:
    """A round trip, once enough is known of Redis for one."""
    found: list[RoundTrip] = []

    def is_made() -> bool:
        if (trip := make()) is None:
            users.put("known", {"n": 0})  # as a thread does, which looks how Redis is
            return False
        return not found.append(trip)

    wait_until(is_made, "a round trip", WITHIN_S)
    return found[0]


def to_read(users: Collection, name: str) -> RoundTrip:
    return made(users, lambda: users.read_trip(name, most_bytes=MOST_BYTES))


def to_put(users: Collection, name: str, document: dict) -> RoundTrip:
    return made(users, lambda: users.put_trip(name, document))


async def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


async def begun(lanes: Lanes, trip: RoundTrip) -> asyncio.Future:
    """The round trip under way, once there is a connection."""
    found: list[asyncio.Future] = []
    await until(lambda: found.append(one) is None if (one := lanes.begin(trip)) is not None else False)
    return found[0]


@asynccontextmanager
async def ready(users: Collection) -> AsyncIterator[Lanes]:
    """Lanes that have a connection."""
    lanes = Lanes(TIMEOUT_MS)
    try:
        assert (await (await begun(lanes, to_read(users, "known")))).entry.exists
        yield lanes
    finally:
        lanes.close()


@pytest.mark.parametrize("seed", range(3))
def test_each_has_its_own_answer(users, seed):
    """Documents of any size, so many at once that neither side can take them as one piece."""
    random = Random(seed)
    documents = {
        f"u{n}": {"n": n, "text": "x" * random.choice((0, 1, 900, 4_090, 9_000, 15_900))} for n in range(400)
    }

    puts = [to_put(users, one, document) for one, document in documents.items()]
    reads = [to_read(users, one) for one in documents]

    async def run() -> tuple[list, list]:
        async with ready(users) as lanes:
            written = await asyncio.gather(*[await begun(lanes, one) for one in puts])
            return written, await asyncio.gather(*[await begun(lanes, one) for one in reads])

    written, read = asyncio.run(run())

    assert [one.id for one in written] == list(documents)
    assert [one.entry.document for one in read] == [{"_id": name, **one} for name, one in documents.items()]
    assert [one.entry.version for one in read] == [one.version for one in written]


def test_a_burst_that_the_socket_does_not_take_at_once(users, way):
    """What is left goes when there is room; who comes meanwhile is behind it."""
    users.put("late", {"n": 1})
    trips = [to_put(users, f"b{n}", {"text": "x" * 15_000}) for n in range(600)]

    async def run() -> list:
        async with ready(users) as lanes:
            futures = [await begun(lanes, one) for one in trips[:500]]
            await asyncio.sleep(0)
            futures += [await begun(lanes, one) for one in trips[500:]]
            return [one.id for one in await asyncio.gather(*futures)]

    assert asyncio.run(run()) == [f"b{n}" for n in range(600)]


def test_what_redis_has_not_or_not_so_short_is_not_decided(users):
    """A missing document and large ones: a thread sees to them. One that is known to be absent is an answer."""
    users.put("large", {"text": "x" * MOST_BYTES})
    users.delete("gone")
    users.put("limit", {"text": "x" * (LIMIT // 2)})

    async def run() -> None:
        async with ready(users) as lanes:
            assert not (await (await begun(lanes, to_read(users, "gone")))).entry.exists
            for name in ("missing", "large", "limit"):
                with pytest.raises(UndecidedError) as found:
                    await (await begun(lanes, to_read(users, name)))
                assert found.value.rest is None, name

    asyncio.run(run())


def test_a_redis_that_has_forgotten_the_script_is_told_it_by_a_thread(users):
    users.put("ada", {"n": 1})
    trip = to_put(users, "ada", {"n": 2})

    async def run() -> None:
        async with ready(users) as lanes:
            trip.server.exchange((("SCRIPT", "FLUSH"),))
            with pytest.raises(UndecidedError) as found:
                await (await begun(lanes, trip))
            assert found.value.rest is None

    asyncio.run(run())
    assert users.get("ada") == {"_id": "ada", "n": 1}
    users.put("ada", {"n": 2})
    assert users.get("ada") == {"_id": "ada", "n": 2}


def test_what_other_hands_have_put_there_is_taken_out_by_a_thread(users, pipeline):
    """The step may have been carried out in part, so it is not begun anew: it fails as it does in a thread."""
    member = DocumentId.of("users", "ada").member
    trip = to_put(users, "ada", {"n": 2})
    trip.server.exchange((("HSET", pipeline.store.cache.key(member), "x", "y"),))

    async def run() -> UndecidedError:
        async with ready(users) as lanes:
            with pytest.raises(UndecidedError) as found:
                await (await begun(lanes, trip))
            return found.value

    rest = asyncio.run(run()).rest
    assert rest is not None
    with pytest.raises(MistypedKeyError):
        rest()
    assert users.put("ada", {"n": 3}).version


def test_a_full_partition_is_found_again_by_a_thread(settings, valkey_wire, way):
    changes = {"redis_url": way.url, "max_pending_per_partition": 1, "partitions": 1}
    with connect(settings.model_copy(update=changes)) as pipeline:
        users = pipeline.collection("users")
        users.put("known", {"n": 0})
        trip = to_put(users, "more", {"n": 1})

        async def run() -> None:
            async with ready(users) as lanes:
                with pytest.raises(UndecidedError) as found:
                    await (await begun(lanes, trip))
                assert found.value.rest is None

        asyncio.run(run())
        with pytest.raises(PartitionFullError):
            users.put("more", {"n": 1})


def test_nobody_waits_long_for_a_redis_that_hangs(users, way):
    """A write may have happened, as its error says; a read can be done anew. Then nothing is begun for a while."""
    put = to_put(users, "ada", {"n": 1})
    read = to_read(users, "known")

    async def run() -> tuple[float, list, object]:
        async with ready(users) as lanes:
            futures = [await begun(lanes, put)]
            await futures[0]
            way.proxy.hang()
            began = time.monotonic()
            futures = [await begun(lanes, one) for one in (put, read)]
            found = await asyncio.gather(*futures, return_exceptions=True)
            return time.monotonic() - began, found, lanes.begin(read)

    took, found, after = asyncio.run(run())

    assert [RedisUnavailableError, RedisUnavailableError] == [type(one) for one in found]
    assert all(one.late for one in found)
    assert found[0] is not found[1]
    assert took >= TIMEOUT_MS / 1000
    assert after is None
    assert put.lost is not None
    with pytest.raises(RedisUnavailableError):
        put.lost(found[0])
    assert read.lost is None
    way.proxy.flow()

    async def again() -> bool:
        async with ready(users) as lanes:
            return (await (await begun(lanes, read))).entry.exists

    assert asyncio.run(again())


def test_a_connection_that_is_cut_ends_what_is_under_way_and_the_next_goes_over_another(users, way):
    put, read = to_put(users, "ada", {"n": 1}), to_read(users, "known")
    later = to_put(users, "ada", {"n": 2})

    async def run() -> tuple[list, list]:
        async with ready(users) as lanes:
            way.proxy.hang()
            futures = [await begun(lanes, one) for one in (put, read)]
            await asyncio.sleep(0)
            way.proxy.cut()
            way.proxy.flow()
            lost = await asyncio.gather(*futures, return_exceptions=True)
            return lost, [await (await begun(lanes, one)) for one in (read, later)]

    lost, found = asyncio.run(run())

    assert {RedisUnavailableError} == {type(one) for one in lost}
    assert [True, "ada"] == [found[0].entry.exists, found[1].id]


def test_what_was_not_sent_yet_when_the_connection_broke_is_begun_anew(users, way):
    """Nobody is told that it may have happened."""
    put = to_put(users, "ada", {"n": 1})

    async def run() -> list:
        async with ready(users) as lanes:
            lane = next(iter(lanes._lanes.values()))
            future = lane.begin(put)
            lane._line._lose(ConnectionError("cut"))
            return await asyncio.gather(future, return_exceptions=True)

    (found,) = asyncio.run(run())

    assert isinstance(found, UndecidedError)
    assert found.rest is None
    assert users.get("ada") is None


def test_a_write_is_seen_to_though_nobody_waits_any_longer(users, pipeline, monkeypatch):
    """Its flush task is sent, and it is counted."""
    told = []
    monkeypatch.setattr(pipeline.store, "_keep_recent", lambda _, commits: told.extend(commits))
    trip = to_put(users, "ada", {"n": 1})
    told.clear()

    async def run() -> None:
        async with ready(users) as lanes:
            (await begun(lanes, trip)).cancel()
            await until(lambda: told)

    asyncio.run(run())
    assert [1] == [len(told)]
    assert users.get("ada") == {"_id": "ada", "n": 1}


def test_a_connection_is_greeted_anew_before_it_is_old(users, monkeypatch):
    """The server may have become a replica, and the primary again: as over each connection of threads."""
    read = to_read(users, "known")
    greeted, server = [], read.server
    greet = server._greet
    monkeypatch.setattr(server, "_greet", lambda one: greeted.append(one) or greet(one))

    async def run() -> None:
        async with ready(users) as lanes:
            await until(lambda: lanes.begin(read) is not None and len(greeted) >= 4)

    asyncio.run(run())
    assert len(greeted) >= 4


def test_over_a_connection_of_an_earlier_term_nothing_is_begun(users):
    """Another thread has met a new primary: over this one comes what that may not have."""
    read = to_read(users, "known")

    async def run() -> None:
        async with ready(users) as lanes:
            assert await lanes.begin(read)
            read.server._succession.since = time.monotonic()
            assert lanes.begin(read) is None
            assert (await (await begun(lanes, read))).entry.exists

    asyncio.run(run())


def test_what_ends_soon_is_for_a_thread_which_has_it_read_anew(users, pipeline):
    """Else all readers would find it gone at once."""
    member = DocumentId.of("users", "known").member
    trip = to_read(users, "known")

    async def run() -> None:
        async with ready(users) as lanes:
            trip.server.exchange((("PEXPIRE", pipeline.store.cache.key(member), 2_000),))
            with pytest.raises(UndecidedError) as found:
                await (await begun(lanes, trip))
            assert found.value.rest is None

    asyncio.run(run())


def test_a_loop_that_stood_still_blames_nobody(users):
    """The answers were there in time: the loop did not look."""
    trips = [to_put(users, f"s{n}", {"text": "x" * 9_000}) for n in range(50)]

    async def run() -> list:
        async with ready(users) as lanes:
            futures = [await begun(lanes, one) for one in trips]
            for _ in range(3):
                await asyncio.sleep(0)
                time.sleep(2 * TIMEOUT_MS / 1000)  # noqa: ASYNC251 - so does a loop that has much to do
            return [one.id for one in await asyncio.gather(*futures)]

    assert asyncio.run(run()) == [f"s{n}" for n in range(50)]


@pytest.mark.parametrize("fails", [True, False], ids=["not answered", "a replica"])
def test_where_the_server_cannot_be_greeted_anew_nothing_begins_over_the_old_connection(users, monkeypatch, fails):
    """It may lead to a former primary, which answers still."""
    read = to_read(users, "known")

    def lend() -> None:
        if fails:
            raise RedisUnavailableError

    async def run() -> None:
        async with ready(users) as lanes:
            monkeypatch.setattr(read.server, "lend", lend)
            await until(lambda: lanes.begin(read) is None)
            assert not [lanes.begin(read) for _ in range(100) if lanes.begin(read)]
            monkeypatch.undo()
            assert (await (await begun(lanes, read))).entry.exists

    asyncio.run(run())


def test_keys_that_are_due_are_not_taken_for_read_by_a_loop(pipeline, users):
    """Where a thread must not wait, nobody has read them, and the next thread does."""
    keyring = pipeline.keyring
    keyring.is_on()
    keyring._due = due = time.monotonic() - 0.1

    with NEVER_WAITS, pytest.raises(WouldWaitError):
        keyring.find("wb_x")

    assert due == keyring._due
    keyring.find("wb_x")
    assert keyring._due > time.monotonic()


def test_what_a_loop_that_stood_still_has_not_sent_is_begun_anew(users):
    """What was known of Redis when it was made may not be so any more."""
    put = to_put(users, "ada", {"n": 1})

    async def run() -> None:
        async with ready(users) as lanes:
            future = await begun(lanes, put)
            time.sleep(2 * TIMEOUT_MS / 1000)  # noqa: ASYNC251 - so does a loop that has much to do
            with pytest.raises(UndecidedError):
                await future

    asyncio.run(run())
    assert users.get("ada") is None


def test_connections_go_back_to_those_of_threads(users):
    """None is left open for each that was fetched, and threads can use them."""
    read = to_read(users, "known")

    async def run() -> None:
        async with ready(users) as lanes:
            lane = lanes._lanes[read.server]
            for _ in range(5):
                lane._fetch(time.monotonic())
                await until(lambda: not lane._is_fetching)
                await (await begun(lanes, read))

    asyncio.run(run())
    assert users.exists("known")
    assert len([one for one in read.server._opened if one._sock is not None]) <= 3


def test_in_an_event_loop_nothing_waits_for_redis(users):
    """A call that would is broken off before it, and begun anew in a thread."""
    with NEVER_WAITS, pytest.raises(WouldWaitError):
        users.put("ada", {"n": 1})
    assert users.get("ada") is None


@pytest.mark.parametrize("what", ["sample", "keys"])
def test_what_is_not_known_well_enough_takes_a_thread(users, pipeline, what):
    if what == "sample":
        pipeline._sampler._taken = 0.0
        assert users.read_trip("known", most_bytes=MOST_BYTES) is None
        assert users.put_trip("known", {}) is None
    else:
        pipeline.keyring.is_on()
        assert pipeline.keyring.is_known(None)
        pipeline.keyring._due = 0.0
        assert not pipeline.keyring.is_known(None)


@pytest.mark.parametrize("other", ["", "wb_x", "none"])
def test_the_root_key_is_known_whatever_redis_has(users, pipeline, other):
    """It needs no reading of keys, as it is in no Redis."""
    root = Token.new(new_id()).text
    keyring = Keyring(pipeline.store.api_keys, root)

    assert not keyring.is_known(root)  # to compare it takes a digest, which is remembered
    assert keyring.find(root) is not None
    assert keyring.is_known(root)
    assert not keyring.is_known(other)


def test_writes_that_are_waited_for_or_claim_values_take_a_thread(settings, valkey_wire):
    collections = {"through": {"write": "through"}, "found": {"lookup": {"name": "string"}}}
    with connect(type(settings).model_validate(settings.model_dump() | {"collections": collections})) as pipeline:
        for name in collections:
            pipeline.collection(name).put("known", {"n": 0})
            assert pipeline.collection(name).put_trip("known", {"n": 0}) is None, name
