"""Servers for the tests: started on free ports when the first test needs them, stopped in any case."""

from __future__ import annotations

import gc
import logging
import os
import re
import tempfile
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from itertools import count
from urllib.parse import urlsplit

import fakeredis
import pytest
from fakeredis.commands_mixins.scripting_mixin import ScriptingCommandsMixin
from flask import request_finished
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from pymongo import MongoClient

from tests import topologies
from tests.described import InProcess
from tests.rabbitmq import RabbitMQ
from tests.scheduling import Scheduling, rank
from tests.servers import REDIS_SERVER, RedisProgram
from tests.tiers import ALL_EXAMPLES
from tests.tls import Authority
from tests.topologies import OF_ONE_SERVER, EveryWire
from writebehind import Pipeline, Settings, forks, load_settings
from writebehind.celery.refusing import refusing
from writebehind.local.embedded import EmbeddedMongo, EmbeddedRedis
from writebehind.logs.setup import OURS
from writebehind.logs.states import be_patient
from writebehind.outage_log import OutageLog
from writebehind.redis.pending import Hint
from writebehind.redis.topology.opening import open_servers
from writebehind.redis.wire import Wire

# How long an example takes says more about the machine than about the code.
steady = hypothesis_settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=ALL_EXAMPLES // 4
)
hypothesis_settings.register_profile("steady", steady)
hypothesis_settings.register_profile("long", steady, max_examples=ALL_EXAMPLES)
hypothesis_settings.load_profile("steady")

_eval = ScriptingCommandsMixin.eval


def _eval_without_flags(self, script: bytes, *arguments):
    """Run a script whose first line, `#!lua flags=…`, fakeredis would take for code."""
    return _eval(self, re.sub(rb"\A#![^\n]*", b"", script), *arguments)


ScriptingCommandsMixin.eval = _eval_without_flags

#: What the contract of the atomic steps is checked on: Redis too where it is installed.
KINDS_OF_REDIS = ["fakeredis", "valkey", *(["redis"] if REDIS_SERVER else [])]

#: The server that documents are persisted to, in place of one that is started: see docs/testing.md.
OTHER_MONGODB = os.environ.get("TEST_MONGODB_URL", "")

#: The kind of Redis that tests run on where they say nothing else: see `tests.topologies` and docs/testing.md.
TOPOLOGY = os.environ.get("TEST_TOPOLOGY", "single")
#: Those whose Redis is Celery's broker too.
BROKERS = frozenset({"single", "redis", "sentinel"})

_databases = count(1)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None]:
    """Collect thousands of tests without looking for garbage among them, now or later."""
    gc.disable()
    before = {**os.environ}
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()
        # Of all processes of a run, and of others: what is kept by the environment would be kept in one place.
        assert before == {**os.environ}, "a module changes the environment as it is imported"


def pytest_collection_modifyitems(items: list[pytest.Item], config: pytest.Config) -> None:
    """Have the slow tests first where several processes share them; leave out those of another kind of Redis."""
    for item in items if TOPOLOGY not in OF_ONE_SERVER else ():
        if marker := item.get_closest_marker("one_server"):
            item.add_marker(pytest.mark.skip(f"of one server only: {marker.args[0]}"))
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: rank(item.nodeid))


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Scheduling | None:
    """Keep together in a process what shares a running system."""
    return Scheduling(config, log) if config.option.dist == "loadscope" else None


@dataclass(frozen=True)
class OtherMongo:
    """A server that somebody else has started."""

    url: str

    @property
    def port(self) -> int:
        """Where it listens."""
        return urlsplit(self.url).port or 27017


@pytest.fixture(autouse=True)
def no_outage_of_another_test() -> Iterator[None]:
    """Let no test read the end of an outage of another one, nor be patient as a process that another one was."""
    yield
    be_patient(0.0)
    for one in list(forks._objects):
        if isinstance(one, OutageLog):
            one.begin_anew()


@pytest.fixture(autouse=True, scope="session")
def nothing_of_earlier_runs(tmp_path_factory) -> Iterator[None]:
    """Have what processes leave in the directory for temporary files where no other run, nor process of it, looks.

    The last known figures are there, by the URL of Redis: a server of an earlier run may have had the same port,
    and what waited in it would be told as lost.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(tmp_path_factory.mktemp("tmp")))
        patch.setattr(tempfile, "tempdir", None)
        yield


@pytest.fixture(autouse=True)
def environment_is_left_alone() -> Iterator[None]:
    """Let no test, nor a command that it runs in this process, give others its environment."""
    before = dict(os.environ)
    yield
    changed = {name for name, _ in before.items() ^ os.environ.items()} - {"PYTEST_CURRENT_TEST"}
    for name in changed:
        os.environ.pop(name, None)
    os.environ.update({name: value for name, value in before.items() if name in changed})
    assert set() == changed


@pytest.fixture(autouse=True)
def levels_of_logs_are_left_alone() -> Iterator[None]:
    """Let no command that a test runs in this process keep lines of other tests back."""
    before = _levels()
    yield
    for name, level in _levels().items():
        if level != before.get(name, logging.NOTSET):
            logging.getLogger(name).setLevel(before.get(name, logging.NOTSET))


@pytest.fixture(autouse=True)
def the_broker_refuses_nothing() -> Iterator[None]:
    """Let what a process knows of its broker be of one test alone."""
    yield
    if refusing.lasts:
        refusing.begin_anew()


@pytest.fixture(autouse=True)
def every_status_is_described() -> Iterator[None]:
    """Let no route answer with a status that its declaration does not have."""
    seen = InProcess()
    with request_finished.connected_to(seen):
        yield
    assert [] == seen.undescribed


def _levels() -> dict[str, int]:
    """The levels of our loggers, and of the one above all, by name."""
    known = logging.root.manager.loggerDict
    return {logging.root.name: logging.root.level} | {
        name: one.level
        for name, one in known.items()
        if isinstance(one, logging.Logger) and name.partition(".")[0] in OURS
    }


@pytest.fixture(scope="session")
def one_valkey(tmp_path_factory) -> Iterator[EmbeddedRedis]:
    """A single server, whatever the tests run on."""
    with EmbeddedRedis(tmp_path_factory.mktemp("one_valkey")) as server:
        yield server


@pytest.fixture(scope="session")
def valkey(request, tmp_path_factory) -> Iterator[EmbeddedRedis | topologies.Cluster]:
    if TOPOLOGY in {"single", "rabbitmq"}:
        yield request.getfixturevalue("one_valkey")
        return
    with topologies.chosen(TOPOLOGY)(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory) -> Iterator[EmbeddedRedis]:
    assert REDIS_SERVER is not None
    with RedisProgram(tmp_path_factory.mktemp("redis"), REDIS_SERVER) as server:
        yield server


@pytest.fixture(scope="session")
def authority(tmp_path_factory) -> Authority:
    """Who signs the certificates of servers that speak TLS."""
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def mongo(tmp_path_factory) -> Iterator[EmbeddedMongo | OtherMongo]:
    if OTHER_MONGODB:
        yield OtherMongo(OTHER_MONGODB)
        return
    with EmbeddedMongo(tmp_path_factory.mktemp("mongo")) as server:
        yield server


@pytest.fixture(scope="session")
def mongo_client(mongo) -> Iterator[MongoClient]:
    with MongoClient(mongo.url, serverSelectionTimeoutMS=5_000) as client:
        yield client


@pytest.fixture
def database_name() -> str:
    """A database of its own for each test, and for each run where the server was there before."""
    return f"test_{os.getpid()}_{next(_databases)}"


@pytest.fixture
def valkey_wire(valkey) -> Iterator[Wire]:
    """A real Redis-compatible server, empty."""
    wire = EveryWire(open_servers(valkey.url, 5_000))
    wire.call("FLUSHALL")
    yield wire
    wire.close()


@pytest.fixture
def wires(request) -> Callable[[str], Iterator[Wire]]:
    """Makes one kind of Redis, empty; as a generator, which closes the connections in the end."""

    def make(kind: str) -> Iterator[Wire]:
        if kind == "fakeredis":
            server = fakeredis.FakeServer(server_type="valkey", version=(7, 2))
            wire = Wire(fakeredis.FakeRedis(server=server, protocol=2).connection_pool)
        else:
            server = request.getfixturevalue("valkey" if kind == "valkey" else "redis_server")
            wire = EveryWire(open_servers(server.url, 5_000))
            wire.call("FLUSHALL")
        yield wire
        wire.close()

    return make


@pytest.fixture(params=KINDS_OF_REDIS)
def wire(request, wires) -> Iterator[Wire]:
    """Each kind of Redis in turn, empty."""
    yield from wires(request.param)


class Hints(list[Hint]):
    """Takes the flush tasks that are wanted, and keeps them for the test."""

    def __call__(self, hint: Hint) -> None:
        self.append(hint)


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch, tmp_path_factory) -> None:
    """Tests see no `writebehind.toml` and no environment but their own."""
    for variable in ("REDIS_URL", "MONGODB_URL", "MONGODB_DATABASE", "BROKER_URL"):
        monkeypatch.delenv(variable, raising=False)
    for variable in [name for name in os.environ if name.startswith("WRITEBEHIND_")]:
        monkeypatch.delenv(variable)
    empty = tmp_path_factory.getbasetemp() / "writebehind.toml"
    empty.touch()
    monkeypatch.setenv("WRITEBEHIND_CONFIG", str(empty))


@pytest.fixture(scope="session")
def one_rabbitmq(tmp_path_factory) -> Iterator[RabbitMQ]:
    with RabbitMQ(tmp_path_factory.mktemp("one_rabbitmq")) as server:
        yield server


@pytest.fixture
def broker(valkey, request) -> EmbeddedRedis | topologies.Sentinels | RabbitMQ:
    """Celery's broker: the same Redis, or one of its own where Celery cannot use that, or RabbitMQ."""
    if TOPOLOGY in BROKERS:
        return valkey
    return request.getfixturevalue("one_rabbitmq" if TOPOLOGY == "rabbitmq" else "one_valkey")


@pytest.fixture
def empty_broker(broker, request) -> None:
    """Celery's broker without a message, whatever it is."""
    if isinstance(broker, RabbitMQ):
        broker.empty()
    else:
        request.getfixturevalue("broker_wire")


@pytest.fixture
def broker_wire(broker, valkey, valkey_wire) -> Iterator[Wire]:
    """The broker, empty; for tests that look at what Celery keeps in Redis, or have it refuse commands."""
    if isinstance(broker, RabbitMQ):
        pytest.skip("it needs a broker that is Redis")
    if broker is valkey:
        yield valkey_wire
        return
    wire = EveryWire(open_servers(broker.url, 5_000))
    wire.call("FLUSHALL")
    yield wire
    wire.close()


@pytest.fixture
def settings(valkey, broker, mongo, database_name) -> Settings:
    return load_settings(
        redis_url=valkey.url,
        **({} if broker is valkey else {"broker_url": broker.url}),
        mongodb_url=mongo.url,
        mongodb_database=database_name,
        partitions=4,
        hot_samples=0,  # or a process that one test leaves behind would send what it counted in another
        defaults={"flush_delay_ms": 0},
        collections={
            "users": {},
            "slow": {"flush_delay_ms": 60_000},
            "through": {"write": "through"},
            "around": {"write": "around"},
        },
    )


@pytest.fixture
def hints() -> Hints:
    return Hints()


@pytest.fixture
def pipeline(settings, valkey_wire, mongo_client, hints) -> Pipeline:
    """A pipeline on real servers. Nobody flushes but the test."""
    return Pipeline(settings, hints=hints, wire=valkey_wire, client=mongo_client)
