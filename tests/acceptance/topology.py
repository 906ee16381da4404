"""The system on another Redis or broker than the embedded one: `TEST_TOPOLOGY=cluster pytest tests/acceptance`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.conftest import BROKERS, TOPOLOGY
from tests.rabbitmq import RabbitMQ
from tests.topologies import chosen
from writebehind.local.embedded import EmbeddedMongo, EmbeddedRedis

_STOPPED = (
    "it stops a server, and tells what one outage does: tests/integration/topology and tests/chaos do so here"
)
_OWN = "what it tries starts an embedded server itself"
#: Where the system starts Redis and MongoDB itself.
EMBEDDED = frozenset(("single", "rabbitmq"))
#: What is left out elsewhere, and why: modules, folders and tests of this package.
ONE_SERVER = {
    "console": "it has servers of its own, which it stops",
    "test_few_lines.py": _STOPPED,
    "test_logs.py": _STOPPED,
    "test_outages.py": _STOPPED,
    "test_pipeline.py::test_an_embedded_server_is_started_again": "it kills embedded servers",
    "test_hot_path.py": "what it counts passes a tap before one port",
    "test_description.py": "its data are in another database of the server: a cluster has one",
    "test_keys.py": "its data are in another database of the server: a cluster has one",
    "test_memory.py": "it measures clients, which hold as much of a document whichever server it comes from",
    "test_rebalance.py": "it starts the servers that it moves partitions between",
    "test_variants.py": "TLS ends before one port",
    "test_demo.py": _OWN,
    "test_pytest_plugin.py": _OWN,
    "test_wheel.py": _OWN,
}


def bound_to_one(nodeid: str, topology: str = TOPOLOGY) -> str:
    """The reason why a test is left out where Redis is not the embedded one; empty where it is not left out."""
    if topology in EMBEDDED:
        return ""
    within = nodeid.removeprefix("tests/acceptance/")
    return next((why for name, why in ONE_SERVER.items() if within.startswith(name) and within != nodeid), "")


@contextmanager
def redis_servers(directory: Path) -> Iterator[dict[str, str]]:
    """Redis as `TEST_TOPOLOGY` says, and a broker where that is another, by the variables that name them."""
    with ExitStack() as stack:
        env = {"REDIS_URL": stack.enter_context(chosen(TOPOLOGY)(directory / "redis")).url}
        yield env | stack.enter_context(broker(directory))


@contextmanager
def broker(directory: Path) -> Iterator[dict[str, str]]:
    """Celery's broker where it is not Redis, or another one, by the variable that names it."""
    if TOPOLOGY in BROKERS:
        yield {}
        return
    kind = RabbitMQ if TOPOLOGY == "rabbitmq" else EmbeddedRedis
    with kind(directory / "broker") as server:
        yield {"BROKER_URL": server.url}


@contextmanager
def servers(directory: Path) -> Iterator[dict[str, str]]:
    """What a system is given: what it does not start itself."""
    if TOPOLOGY in EMBEDDED:
        with broker(directory) as env:
            yield env
        return
    with redis_servers(directory) as env, EmbeddedMongo(directory / "mongodb") as mongo:
        yield {**env, "MONGODB_URL": mongo.url}
