"""A pipeline that was used before a fork: each process has connections, threads and locks of its own."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import Queue
from uuid import uuid4

import pytest

from tests.forking import Child, in_child
from tests.integration.conftest import flush_all
from tests.waiting import wait_until
from writebehind import Pipeline, connect, forks
from writebehind.celery import FlushPublisher
from writebehind.documents.ids import new_id
from writebehind.local.supervisor import bound_to_parent
from writebehind.reading.freshness import Refresher
from writebehind.redis.cache import Refresh
from writebehind.redis.connections import connection_pool
from writebehind.redis.wire import Wire

CHILDREN = 4
#: Forks after the first requests and without telling Python, as a server that embeds it may do. Each process says
#: what it has read and drawn.
FORK_IN_C = """
import ctypes, json, os, random, sys, time
from uuid import uuid4
from writebehind.celery import FlushPublisher
from writebehind import connect, load_settings
from writebehind.documents.ids import new_id

settings = load_settings(**json.loads(sys.argv[1]))
hints = FlushPublisher(settings)
pipeline = connect(settings, hints=hints)
users, through = pipeline.collection("users"), pipeline.collection("through")

def work(name):
    for n in range(300):
        users.put(f"{name}{n}", {"n": n})
        through.put(name, {"n": n}) if n < 3 else None
    read = all(users.get(f"{name}{n}") == {"_id": f"{name}{n}", "n": n} for n in range(300))
    dropped = pipeline.store._wire.call("DEL", pipeline.store.cache.key(f"through/s:{name}")) == 1
    loaded = dropped and through.get(name) == {"_id": name, "n": 2}
    return [read and loaded, random.random(), uuid4().hex, str(new_id("objectid"))]

def tell(what):
    os.write(1, json.dumps(what).encode() + b"\\n")  # at once, or lines of two processes mix

work("before")
pipeline.store._wire._lookout.due = 0.0  # as after a moment: what a child does first is a look, under a lock
names = ["parent", "one", "two"]
fork = ctypes.PyDLL(None).fork
for name in names[1:]:
    time.sleep(0.5)  # see `forked_in_c`
    if not fork():
        tell(work(name))
        os._exit(0)
tell(work("parent"))
for name in names[1:]:
    os.wait()
hints.close()
pipeline.close()
"""


@pytest.fixture
def wire(one_valkey, way_to) -> Iterator[Wire]:
    with way_to("redis", one_valkey.port) as way:
        wire = Wire(connection_pool(way.url, 10_000))
        yield wire
        wire.close()


@pytest.fixture
def pipeline(settings, valkey_wire) -> Iterator[Pipeline]:
    """One that connects by itself, and counts reads."""
    with connect(settings.model_copy(update={"hot_samples": 100})) as pipeline:
        yield pipeline


def echoes(wire: Wire, name: str, count: int = 1_000) -> bool:
    """Whether each answer is that to its question."""
    return all(wire.call("ECHO", f"{name}-{n}") == f"{name}-{n}".encode() for n in range(count))


def used(pipeline: Pipeline) -> Pipeline:
    """The same after reads and writes of each kind, with all its threads at work."""
    for name in ("users", "through"):
        pipeline.collection(name).put("ada", {"n": 1})
        pipeline.collection(name).read("ada")
    pipeline.collection("users").get("nobody")
    assert "hot-keys" in {one.name for one in threading.enumerate()}
    return pipeline


def reachable(root: object) -> list[object]:
    """What belongs to an object of this project, as far as the project itself has made it."""
    seen: dict[int, object] = {}
    waiting = [root]
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen[id(one)] = one
        module = type(one).__module__
        ours = module.startswith(("writebehind", "tasks", "web"))
        parts = (dict, list, tuple, set, types.MethodType, types.FunctionType, types.CellType, Queue)
        parts += (threading.Event, threading.Condition)
        if ours or isinstance(one, parts):
            waiting += [
                part
                for part in gc.get_referents(one)
                if not isinstance(part, type | types.ModuleType) and part is not getattr(one, "__globals__", None)
            ]
    return list(seen.values())


def locks(root: object) -> list[threading.Lock]:
    return [one for one in reachable(root) if type(one) in {type(threading.Lock()), type(threading.RLock())}]


def test_processes_do_not_get_each_others_answers(wire):
    """Children of a process that has open connections, and that process itself, get what they have asked for."""
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda n: echoes(wire, f"before{n}", 50), range(4)))

    children = [Child(lambda n=n: echoes(wire, f"child{n}")) for n in range(CHILDREN)]

    assert echoes(wire, "parent")
    assert [True] * CHILDREN == [one.result() for one in children]


def test_an_answer_that_is_on_its_way_when_a_process_forks(wire):
    """It goes to the thread that has asked, and its connection is neither ended nor kept open by the child."""
    name = f"client-{uuid4().hex}"

    def wait_for_it() -> object:
        return wire.calls([("CLIENT", "SETNAME", name), ("BLPOP", name, 5)])[1]

    def connections() -> bytes:
        return next(line for line in wire.call("CLIENT", "LIST").splitlines() if name.encode() in line)

    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(wait_for_it)
        wait_until(lambda: b"cmd=blpop" in connections(), "the question")
        assert in_child(lambda: echoes(wire, "child", 10))
        assert in_child(lambda: len(list(wire._servers.place("")._opened))) == 0
        wire.call("RPUSH", name, "it")
        assert [name.encode(), b"it"] == answer.result()


def test_a_fork_of_which_python_is_not_told(settings, valkey_wire):
    """Children that C code has forked have connections, MongoDB clients and random numbers of their own too."""
    names = ("redis_url", "broker_url", "mongodb_url", "mongodb_database", "partitions", "hot_samples")
    given = settings.model_dump(mode="json", include=set(names)) | {
        "collections": {"users": {}, "through": {"write": "through"}},
        "persist_timeout_ms": 60_000,
    }
    command = [sys.executable, "-c", FORK_IN_C, json.dumps(given)]

    good, *drawn = zip(*map(json.loads, forked_in_c(command)), strict=True)
    assert (True,) * 3 == good
    assert [3, 3, 3] == [len(set(some)) for some in drawn]


def forked_in_c(command: Sequence[str]) -> list[bytes]:
    """Lines that a program prints which forks in C.

    Where a thread waits for the interpreter at that moment, whoever it is, the child hangs in glibc as soon as it
    has two threads: the condition of CPython's lock counts a waiter that is not there. So nobody has much to do
    then, and what hangs is tried again.
    """
    for _ in range(3):
        with subprocess.Popen(bound_to_parent(command), stdout=subprocess.PIPE, start_new_session=True) as process:
            try:
                printed, _ = process.communicate(timeout=60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                continue
            assert process.returncode == 0
            return printed.splitlines()
    pytest.fail("three times a child did not end")


def test_a_pool_of_processes_of_a_library_user(pipeline):
    """`multiprocessing` forks from a process that has used its pipeline, also anew for what comes later."""
    used(pipeline)
    with multiprocessing.get_context("fork").Pool(CHILDREN, _share, (pipeline,), maxtasksperchild=5) as pool:
        found = pool.map(_counted, range(100), chunksize=1)
        pipeline.collection("users").put("parent", {"n": -1})

    assert [n for n, _ in found] == list(range(100))
    assert len({process for _, process in found}) > CHILDREN
    assert {"_id": "parent", "n": -1} == pipeline.collection("users").get("parent")


_shared: list[Pipeline] = []


def _share(pipeline: Pipeline) -> None:
    _shared[:] = [pipeline]


def _counted(n: int) -> tuple[int, int]:
    """Write and read a document in a child of a pool; what was read, and in which process."""
    users = _shared[0].collection("users")
    users.put(f"pool{n}", {"n": n})
    return users.get(f"pool{n}")["n"], os.getpid()


def test_a_child_ends_nothing_of_its_parent(pipeline):
    """What a child closes is its own: the parent goes on, with the same connections."""
    used(pipeline)
    before = {id(one) for one in pipeline.store._wire._servers.place("")._opened}

    in_child(pipeline.close)

    assert {"_id": "ada", "n": 1} == pipeline.collection("users").get("ada")
    assert before <= {id(one) for one in pipeline.store._wire._servers.place("")._opened}  # a thread may want one


def test_no_lock_is_held_in_a_child(pipeline, settings):
    """Whatever lock a thread of the parent holds when it forks: a child can take it, and has no dead threads."""
    hints = FlushPublisher(settings)
    system = [used(pipeline), hints, pipeline.listener()]
    all_locks = locks(system)
    assert len(all_locks) > 20  # it finds them
    held, over = threading.Event(), threading.Event()

    def hold() -> None:
        taken = [one for one in all_locks if one.acquire(timeout=5)]
        held.set()
        over.wait(60)
        for one in taken:
            one.release()

    def look() -> tuple[list[str], list[str]]:
        left = [repr(one) for one in locks(system) if not one.acquire(blocking=False)]
        dead = [repr(one) for one in reachable(system) if isinstance(one, threading.Thread)]
        return left, dead

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(60)
    try:
        found = in_child(look)
    finally:
        over.set()
        holder.join()
    assert ([], []) == found


def test_a_child_reads_and_writes(pipeline):
    """All that its parent could do: writes, also through, and reads from Redis and MongoDB."""
    used(pipeline)
    flush_all(pipeline)

    def work() -> list[object]:
        users, through = (pipeline.collection(one) for one in ("users", "through"))
        users.put("child", {"n": 2})
        through.put("child", {"n": 3})
        for name in ("ada", "child"):
            pipeline.store._wire.call("DEL", pipeline.store.cache.key(f"through/s:{name}"))
        users.put("ada", {"n": 4})
        return [users.get("child"), through.get("child"), users.get("ada")]

    expected = [{"_id": "child", "n": 2}, {"_id": "child", "n": 3}, {"_id": "ada", "n": 4}]
    assert expected == in_child(work)
    assert {"_id": "ada", "n": 4} == pipeline.collection("users").get("ada")


def test_a_child_does_not_wait_for_a_load_of_its_parent(pipeline, monkeypatch):
    """A thread that loads a document is not there in a child: it loads the document itself."""
    find, loading, go_on = pipeline.sink.find, threading.Event(), threading.Event()

    def slow(*arguments: object, **named: object) -> object:
        loading.set()
        go_on.wait(30)
        return find(*arguments, **named)

    monkeypatch.setattr(pipeline.sink, "find", slow)
    with ThreadPoolExecutor(1) as thread:
        loads = thread.submit(pipeline.collection("users").get, "nobody")
        loading.wait(10)
        assert [] == in_child(lambda: list(pipeline.reader._loader._flights._flights))
        go_on.set()
        assert loads.result() is None


def test_reads_are_counted_once(pipeline, monkeypatch):
    """A child does not send what its parent has counted, and sends what it counts itself."""
    hot = pipeline.hot_keys

    def heat() -> dict[str, float]:
        return {one.id.value: one.rate for one in hot.top(10)}

    with monkeypatch.context() as patch:
        patch.setattr(hot, "_start", lambda: None)  # the test sends
        hot.seen("users/s:parent")
    in_child(hot.send)
    assert {} == heat()
    hot.send()

    def child() -> None:
        hot.seen("users/s:child")
        wait_until(lambda: "child" in heat(), "the child's thread to send")

    in_child(child)
    assert {"parent", "child"} == heat().keys()


def test_a_child_refreshes_what_it_is_given():
    """The thread that refreshes begins anew, and what the parent was given stays with the parent."""
    done: list[str] = []
    go_on = threading.Event()

    def refresh(one: Refresh) -> None:
        go_on.wait(30)
        done.append(one.member)

    refresher = Refresher(refresh, lambda _: None, life_ms=60_000)
    refresher(Refresh("parent", "token", "seen"))
    refresher(Refresh("parent, later", "token", "seen"))

    def child() -> list[str]:
        go_on.set()
        refresher(Refresh("child", "token", "seen"))
        return wait_until(lambda: done, "the child's refresh")

    assert ["child"] == in_child(child)
    go_on.set()
    wait_until(lambda: done == ["parent", "parent, later"], "the parent's refreshes")
    refresher.close()


@pytest.mark.parametrize(
    "draw", [random.random, lambda: uuid4().hex, lambda: new_id("objectid")], ids=["random", "uuid", "objectid"]
)
def test_processes_draw_differently(draw: Callable[[], object]):
    """Jitter, tokens and new ids are not the same in a process and its children."""
    draw()
    children = [Child(lambda: [draw() for _ in range(5)]) for _ in range(CHILDREN)]
    drawn = [draw() for _ in range(5)] + [one for child in children for one in child.result()]

    assert len(drawn) == len(set(drawn))


def test_a_listener_is_another_one_in_a_child(pipeline):
    """A parent and its child do not take each other's lease for their own."""
    listener = pipeline.listener()

    assert listener._token != in_child(lambda: listener._token)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_object_that_cannot_begin_anew(wire):
    """It keeps no other from doing so."""

    class Failing:
        def begin_anew(self) -> None:
            raise RuntimeError

    wire.call("PING")
    failing = [Failing() for _ in range(20)]  # some of them come before the wire
    for one in failing:
        forks.begins_anew(one)

    children = [Child(lambda n=n: echoes(wire, f"child{n}")) for n in range(CHILDREN)]

    assert echoes(wire, "parent")
    assert [True] * CHILDREN == [one.result() for one in children]
