"""A Redis that answers and refuses whatever is written, or all: each view says so, and blames nobody else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from redis.exceptions import ResponseError
from rich.console import Console

from tests.topologies import ask
from tests.waiting import wait_until
from writebehind import Pipeline
from writebehind.cli.status import _rows, without_redis
from writebehind.errors import RedisNotReadyError, ReplicaError, UnavailableError
from writebehind.operations.doctor import redis as doctor
from writebehind.operations.doctor.findings import Level
from writebehind.redis.shared.attendance import BEAT

#: What has it refuse, what ends that, and the code of its words.
REFUSALS = {
    "replicas": (("CONFIG", "SET", "min-replicas-to-write", 9), ("CONFIG", "SET", "min-replicas-to-write", 0)),
    "rights": (("ACL", "SETUSER", "default", "-set"), ("ACL", "SETUSER", "default", "+@all")),
    "saving": (("CONFIG", "SET", "save", "3600 1"), ("CONFIG", "SET", "save", "")),
}
WORDS = {
    "replicas": "NOREPLICAS ",
    "rights": "NOPERM ",
    "saving": "MISCONF ",
}


#: A cluster and Sentinels say themselves who takes writes, and whoever is busy for a second is replaced.
REPLACED = pytest.mark.one_server("others take the place of one that is demoted, or busy")


def tell(pipeline: Pipeline, command: Sequence[object]) -> None:
    """Send each server what it may refuse, alone: named servers are sent all else in transactions."""
    for one in pipeline.store._wire._servers.servers():
        port = one._pool.connection_kwargs.get("port")
        with suppress(ResponseError):
            if port is None:  # Sentinels say which one it is
                pipeline.store._wire.call(*command)
            else:
                ask(port, *command)


@pytest.fixture(params=REFUSALS)
def refusing(request, pipeline):
    """The words of a Redis that takes no writes from now on, and a pipeline with a document that waits there."""
    begin, end = REFUSALS[request.param]
    pipeline.collection("slow").put("ada", {"n": 1})
    pipeline.store.attendance.note(BEAT)
    tell(pipeline, begin)
    files = [Path(one, "dump.rdb") for one in pipeline.store.directories().values()]
    if request.param == "saving":
        in_the_way(files, pipeline)
    yield WORDS[request.param], pipeline
    tell(pipeline, end)
    if request.param == "saving":
        for one in files:
            one.rmdir()
        save(pipeline, "ok")


def in_the_way(files: list[Path], pipeline: Pipeline) -> None:
    """Put a directory where each server has its file, so that it cannot save."""
    for one in files:
        one.unlink(missing_ok=True)
        one.mkdir()
    save(pipeline, "err")


def save(pipeline: Pipeline, status: str) -> None:
    """Have each server save, until all say that they could, or could not."""

    def seen() -> bool:
        facts = pipeline.store.facts().values()
        if any(one["rdb_last_bgsave_status"] != status for one in facts):
            tell(pipeline, ("BGSAVE",))  # refused while it does
        return all(one["rdb_last_bgsave_status"] == status for one in facts)

    wait_until(seen, f"saving to be {status}", 30)


#: A script that ends by itself after a minute, if nobody has it end.
LOOP = "local since = redis.call('TIME')[1] while redis.call('TIME')[1] - since < 60 do end"


@pytest.fixture
def looping(pipeline) -> Iterator[Pipeline]:
    """A Redis that is busy with a script, and answers nothing else."""
    wire = pipeline.store._wire
    wire.on_each([("CONFIG", "SET", "busy-reply-threshold", 1)])
    with ThreadPoolExecutor(1) as threads:
        ends = threads.submit(wire.on_each, [("EVAL", LOOP, 0)])

        def refused() -> bool:
            try:
                pipeline.store.now_ms()
            except RedisNotReadyError as error:
                return "BUSY" in str(error)
            return False

        try:
            wait_until(refused, "a script that loops", 30)
            yield pipeline
        finally:
            while not ends.done():
                wire.on_each([("SCRIPT", "KILL")])
    wire.on_each([("CONFIG", "SET", "busy-reply-threshold", 5_000)])


@REPLACED
def test_one_that_a_script_keeps_busy_is_told_by_its_words(looping):
    """It answers nobody, so nothing else can be known: neither that it is away, nor whom its workers wait for."""
    with pytest.raises(RedisNotReadyError, match="BUSY") as refused:
        looping.collection("slow").put("eve", {"n": 1})
    with pytest.raises(RedisNotReadyError):
        looping.status()
    (told,) = to_do = looping.status_without_redis(refused.value)["to_do"]
    with (console := Console(width=200)).capture() as printed:
        console.print(without_redis(None, to_do, refused.value))
    assert printed.get().startswith("Redis cannot serve now; nobody on this host")
    assert ("redis", "critical") == (told["condition"], told["severity"])
    assert "`SCRIPT KILL`" in told["advice"]
    *_, found = doctor.check(looping)
    assert (Level.FAILURE, True) == (found.level, "BUSY" in found.found)


@pytest.fixture
def demoted(pipeline) -> Iterator[Pipeline]:
    """A Redis that has become a replica, of a server that is not there."""
    pipeline.collection("slow").put("ada", {"n": 1})
    tell(pipeline, ("REPLICAOF", "127.0.0.1", 1))
    pipeline.store._wire.close()
    yield pipeline
    tell(pipeline, ("REPLICAOF", "NO", "ONE"))


@REPLACED
def test_one_that_was_demoted_is_told_as_a_replica(demoted):
    """Nothing is read from it, figures neither: it may lack the last writes."""
    with pytest.raises(ReplicaError) as refused:
        demoted.collection("slow").put("eve", {"n": 1})
    with pytest.raises(ReplicaError):
        demoted.status()
    assert demoted.collection("slow").get("ada") is None  # as MongoDB has it
    (told,) = demoted.status_without_redis(refused.value)["to_do"]
    assert ("redis", "critical") == (told["condition"], told["severity"])
    assert "name its primary in REDIS_URL" in told["advice"]
    *_, found = doctor.check(demoted)
    assert (Level.FAILURE, "redis role") == (found.level, found.check)
    tell(demoted, ("REPLICAOF", "NO", "ONE"))
    wait_until(lambda: demoted.collection("slow").get("ada") == {"_id": "ada", "n": 1}, "the primary to be seen")


def test_each_view_says_by_which_words_it_refuses(refusing):
    """It is critical, and nothing else is: nobody can persist anything, or note that it is at work."""
    code, pipeline = refusing
    with pytest.raises(UnavailableError):
        pipeline.collection("slow").put("eve", {"n": 1})
    figures = pipeline.status()
    assert code in figures["redis_refuses"]
    name, value, is_good = next(_rows(figures))
    assert ("refused", False) == (name, is_good)
    assert code in value
    assert figures["redis_refuses_seconds"] is not None
    first = figures["to_do"][0]
    assert ("redis-refuses", "critical") == (first["condition"], first["severity"])
    assert code in first["found"]
    assert {"backlog", "listener", "beat", "exporter"}.isdisjoint(one["about"] for one in figures["to_do"])
    assert [Level.FAILURE] == [one.level for one in doctor.writes(pipeline)]
    found = [one for one in doctor._check(pipeline) if one.level is Level.FAILURE and code in one.found]
    assert ["redis writes"] == [one.check for one in found]


@pytest.fixture
def full(pipeline) -> Iterator[Pipeline]:
    """A Redis without any memory left."""
    pipeline.store._wire.on_each([("CONFIG", "SET", "maxmemory", 1)])
    yield pipeline
    pipeline.store._wire.on_each([("CONFIG", "SET", "maxmemory", 0)])


def test_one_whose_memory_is_full_is_told_as_that(full):
    """What fills it is more to the point than that it refuses, which the doctor says as well."""
    with pytest.raises(UnavailableError):
        full.collection("slow").put("eve", {"n": 1})
    figures = full.status()
    assert "OOM " in figures["redis_refuses"]
    first = figures["to_do"][0]
    assert ("memory", "critical") == (first["condition"], first["severity"])
    (found,) = doctor.writes(full)
    assert (Level.FAILURE, True) == (found.level, "OOM " in found.found)


def test_one_that_takes_writes_is_told_as_such(pipeline):
    """The probe leaves nothing behind."""
    figures, size = pipeline.status(), pipeline.store.size()
    assert (None, None) == (figures["redis_refuses"], figures["redis_refuses_seconds"])
    assert [Level.OK] == [one.level for one in doctor.writes(pipeline)]
    assert size == pipeline.store.size()
