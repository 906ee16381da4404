"""The system on another Redis than the embedded one: `TEST_TOPOLOGY=cluster pytest tests/acceptance`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.conftest import BROKERS, TOPOLOGY
from tests.topologies import chosen
from writebehind.local.embedded import EmbeddedMongo, EmbeddedRedis

_STOPPED = (
    "it stops a server, and tells what one outage does: tests/integration/topology and tests/chaos do so here"
)
_OWN = "what it tries starts an embedded server itself"
#: What is left out there, and why: modules, folders and tests of this package.
ONE_SERVER = {
    "console": _STOPPED,
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


def bound_to_one(nodeid: str) -> str:
    """The reason why a test is left out where Redis is not the embedded one; empty where it is not."""
    within = nodeid.removeprefix("tests/acceptance/")
    return next((why for name, why in ONE_SERVER.items() if within.startswith(name) and within != nodeid), "")


@contextmanager
def redis_servers(directory: Path) -> Iterator[dict[str, str]]:
    """Redis as `TEST_TOPOLOGY` says, and a broker where Celery cannot use it, by the variables that name them."""
    with ExitStack() as stack:
        env = {"REDIS_URL": stack.enter_context(chosen(TOPOLOGY)(directory / "redis")).url}
        if TOPOLOGY not in BROKERS:
            env["BROKER_URL"] = stack.enter_context(EmbeddedRedis(directory / "broker")).url
        yield env


@contextmanager
def servers(directory: Path) -> Iterator[dict[str, str]]:
    """What a system is given: nothing where it starts embedded servers, else Redis, and a MongoDB of its own."""
    if TOPOLOGY == "single":
        yield {}
        return
    with redis_servers(directory) as env, EmbeddedMongo(directory / "mongodb") as mongo:
        yield {**env, "MONGODB_URL": mongo.url}
