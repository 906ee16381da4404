"""The library for `asyncio`: the same promises, and what a cancelled call means."""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
from contextvars import ContextVar
from functools import partial

import pytest

from tests.forking import in_child
from tests.waiting import wait_until
from writebehind import AsyncCollection, AsyncPipeline, Collection, Hooks, Pipeline, aconnect
from writebehind.errors import (
    DocumentNotFoundError,
    InvalidArgumentError,
    InvalidIdError,
    PipelineClosedError,
    PreconditionFailedError,
)

TIMEOUT_S = 30


class Gate:
    """A change to a document that waits, in its thread, until the test lets it go on."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.open = threading.Event()
        self.within = self.most = 0
        self._lock = threading.Lock()

    def __call__(self, document):
        with self._lock:
            self.within += 1
            self.most = max(self.most, self.within)
        self.begun.release()
        assert self.open.wait(TIMEOUT_S)
        with self._lock:
            self.within -= 1
        return document | {"changed": True}

    async def wait(self) -> None:
        """Until one more call has begun."""
        assert await asyncio.to_thread(self.begun.acquire, timeout=TIMEOUT_S)


@pytest.fixture
def make(settings, valkey, mongo):
    """Makes pipelines for asyncio, with connections of their own."""
    return partial(aconnect, settings)


@pytest.fixture
def gate():
    made = Gate()
    yield made
    made.open.set()


def run(coroutine):
    """Run it, for a bounded time."""
    return asyncio.run(asyncio.wait_for(coroutine, 2 * TIMEOUT_S))


def test_read_your_writes(valkey_wire, make):
    """Each method does what its namesake does; many at once do not disturb each other."""

    async def scenario():
        async with make() as pipeline:
            users = pipeline.collection("users")
            await asyncio.gather(*(users.put(str(n), {"n": n}) for n in range(200)))
            assert [{"_id": str(n), "n": n} for n in range(200)] == await users.mget(map(str, range(200)))
            assert list(range(200)) == [one["n"] async for one in users.get_each(map(str, range(200)))]
            assert list(range(200)) == sorted([one["n"] async for one in users.scan(limit=30)])
            await asyncio.gather(*(users.increment("0", {"n": 1}) for _ in range(20)))
            await users.patch("1", {"n": None, "x": 1})
            await users.update("2", {"n": None})
            await users.delete("3")
            created = await users.create({"x": 2}, durability="persisted")
            assert {"n": 20}.items() <= (await users.get("0")).items()
            assert [{"_id": "1", "x": 1}, {"_id": "2", "n": None}, None] == await users.mget(["1", "2", "3"])
            assert [True, False] == [await users.exists(created.id), await users.exists("3")]
            assert pipeline.settings.partitions == (await pipeline.status())["partitions"]
            await pipeline.check()

    run(scenario())


#: What those call who serve others.
BY_SERVERS = {"read_each", "is_named_by_its_text", "read_trip", "put_trip", "puts_by_trips"}


def test_every_method_is_there():
    """The collection for asyncio has each public method of the other one, with the same arguments."""
    for name, method in inspect.getmembers(Collection, inspect.isfunction):
        if not name.startswith("_") and name not in BY_SERVERS:
            twin = getattr(AsyncCollection, name)
            assert inspect.signature(method) == inspect.signature(twin) or name in {"get_each", "scan"}, name
            assert inspect.iscoroutinefunction(twin) or name in {"id", "get_each", "scan"}, name


def test_errors_and_context_reach_through_threads(valkey_wire, make):
    """What a call raises reaches who awaits it, and hooks see the caller's context."""
    who, seen = ContextVar("who", default="nobody"), []

    async def scenario():
        async with make(hooks={"users": Hooks(validate=lambda *_: seen.append(who.get()))}) as pipeline:
            users = pipeline.collection("users")
            who.set("ada")
            await users.put("ada", {})
            with pytest.raises(PreconditionFailedError):
                await users.put("ada", {}, if_absent=True)
            with pytest.raises(DocumentNotFoundError):
                await users.patch("bob", {})
            with pytest.raises(InvalidIdError):
                await users.get("")
            with pytest.raises(ZeroDivisionError):
                await users.patch("ada", lambda _: 1 / 0)

    run(scenario())
    assert {"ada"} == set(seen)


def test_threads_are_bounded(valkey_wire, make, gate):
    """No more calls run at a time than there are threads; the others wait, and all are done in the end."""

    async def scenario():
        async with make(threads=3) as pipeline:
            users = pipeline.collection("users")
            await asyncio.gather(*(users.put(str(n), {}) for n in range(12)))
            calls = [asyncio.create_task(users.patch(str(n), gate)) for n in range(12)]
            for _ in range(3):
                await gate.wait()
            threads = sum(one.name.startswith("writebehind") for one in threading.enumerate())
            gate.open.set()
            await asyncio.gather(*calls)
            return threads

    assert (3, 3) == (run(scenario()), gate.most)


def test_a_write_that_is_cancelled_before_it_begins_does_not_happen(valkey_wire, make, gate):
    """A write that still waits for a thread is gone when it is cancelled, at once."""

    async def scenario():
        async with make(threads=1) as pipeline:
            users = pipeline.collection("users")
            await users.put("ada", {})
            first = asyncio.create_task(users.patch("ada", gate))
            await gate.wait()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(users.put("bob", {}), 0.01)  # while the thread is taken
            assert not first.done()
            gate.open.set()
            await first
            return await users.get("bob")

    assert run(scenario()) is None


def test_a_write_that_has_begun_is_waited_for(valkey_wire, make, gate, caplog):
    """Cancelled, again and again, a write ends first: what follows comes after it, and what came of it is told."""

    async def scenario():
        async with make() as pipeline:
            users = pipeline.collection("users")
            await users.put("ada", {})
            call = asyncio.create_task(users.patch("ada", gate))
            await gate.wait()
            for _ in range(3):
                call.cancel()
                await asyncio.sleep(0)
            done, _ = await asyncio.wait([call], timeout=0.05)
            assert not done
            gate.open.set()
            with pytest.raises(asyncio.CancelledError) as caught:
                await call
            return caught.value, (await users.read("ada")).entry.version, await users.get("ada")

    cancelled, version, document = run(scenario())
    assert {"_id": "ada", "changed": True} == document
    (note,) = cancelled.__notes__
    assert "the patch of users was cancelled when it had begun, and succeeded" in note
    assert str(version) in note
    assert note in caplog.text


def test_a_cancelled_write_that_fails_says_so(valkey_wire, make, gate, caplog):
    """An error that nobody waits for any more is in the log, and with the cancellation."""

    def fail(document):
        gate(document)
        raise RuntimeError("no")

    async def scenario():
        async with make() as pipeline:
            users = pipeline.collection("users")
            await users.put("ada", {})
            call = asyncio.create_task(asyncio.wait_for(users.patch("ada", fail), 0.05))
            await gate.wait()
            asyncio.get_running_loop().call_later(0.2, gate.open.set)
            with pytest.raises(TimeoutError) as caught:
                await call
            return caught.value.__cause__

    assert "failed: RuntimeError: no" in run(scenario()).__notes__[0]
    assert "failed: RuntimeError: no" in caplog.text


def test_a_cancelled_read_is_left_alone(valkey_wire, make, gate, monkeypatch):
    """Nobody waits for a read that was cancelled; the pipeline closes when it has ended."""

    async def scenario():
        async with make() as pipeline:
            monkeypatch.setattr(pipeline.sync.reader, "get_or_bypass", lambda *_, **__: gate({}))
            call = asyncio.create_task(pipeline.collection("users").get("ada"))
            await gate.wait()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            within = gate.within
            gate.open.set()
        return within, gate.within

    assert (1, 0) == run(scenario())


def test_closing_waits_for_what_runs(valkey_wire, make, gate):
    """A pipeline that is closed ends its calls first, also where closing is cancelled; then it takes no more."""

    async def scenario():
        pipeline = make()
        users = pipeline.collection("users")
        await users.put("ada", {})
        call = asyncio.create_task(users.patch("ada", gate))
        await gate.wait()
        closing = asyncio.create_task(pipeline.close())
        await asyncio.sleep(0)
        closing.cancel()
        done, _ = await asyncio.wait([closing], timeout=0.05)
        assert not done
        gate.open.set()
        with pytest.raises(asyncio.CancelledError):
            await closing
        await call
        for late in (users.get("ada"), users.put("ada", {}), pipeline.status()):
            with pytest.raises(PipelineClosedError):
                await late
        await pipeline.close()

    before = set(threading.enumerate())
    run(scenario())
    wait_until(lambda: set(threading.enumerate()) <= before, "the threads to end")


def test_event_loops_share_a_pipeline(valkey_wire, make):
    """One pipeline serves loops in several threads, and one loop after another."""
    pipeline = make()

    async def scenario(name):
        users = pipeline.collection("users")
        await asyncio.gather(*(users.put(f"{name}{n}", {"n": n}) for n in range(50)))
        return await users.mget([f"{name}{n}" for n in range(50)])

    found = {}
    loops = [threading.Thread(target=lambda at=at: found.update({at: run(scenario(at))})) for at in "abc"]
    for one in loops:
        one.start()
    for one in loops:
        one.join()
    found["d"] = run(scenario("d"))
    run(pipeline.close())

    assert {at: [{"_id": f"{at}{n}", "n": n} for n in range(50)] for at in "abcd"} == found


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_has_threads_of_its_own(valkey_wire, make):
    """A process that is forked from one that has used a pipeline uses it too."""
    pipeline = make()
    users = pipeline.collection("users")
    run(users.put("ada", {"n": 1}))

    def in_the_child():
        run(users.increment("ada", {"n": 1}))
        return os.getpid(), run(users.get("ada"))["n"]

    child, n = in_child(in_the_child)
    assert (2, 2) == (n, run(users.get("ada"))["n"])
    assert child != os.getpid()
    run(pipeline.close())


@pytest.mark.parametrize("wrong", [0, -1, True, None, 1.5, "8"], ids=repr)
def test_threads_are_a_number(settings, wrong):
    """A number of threads that is none is refused, and so is what is no pipeline."""
    with pytest.raises(InvalidArgumentError, match="threads must be a number"):
        aconnect(settings, threads=wrong)
    with pytest.raises(InvalidArgumentError, match="sync must be Pipeline"):
        AsyncPipeline(wrong)


def test_other_calls_of_a_pipeline(pipeline: Pipeline):
    """What has no twin is called by `run`, in a thread, and to its end."""

    async def scenario():
        face = AsyncPipeline(pipeline)
        await face.collection("slow").put("ada", {})
        partition = pipeline.store.partition_of("slow/s:ada")
        summary = await face.run(pipeline.flusher.drain, partition, budget_s=5)
        return summary.persisted

    assert 1 == run(scenario())
