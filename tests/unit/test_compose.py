"""docker-compose.yml runs what the Procfile runs, safely."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from honcho.environ import parse_procfile

from tasks.names import FLUSH_QUEUE, MAINTENANCE_QUEUE

ROOT = Path(__file__).parents[2]
SERVERS = {"redis", "mongo"}
#: Beat has nothing that could be asked; when it ends it is started again.
WITHOUT_HEALTH_CHECK = {"beat"}


@pytest.fixture(scope="module")
def compose() -> dict:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))


@pytest.fixture(scope="module")
def services(compose) -> dict:
    return compose["services"]


def test_the_same_processes_as_in_the_procfile(services):
    """Every process of the Procfile is a service, and every other service is a server."""
    procfile = parse_procfile((ROOT / "Procfile").read_text("utf-8")).processes

    assert set(procfile) | SERVERS == set(services)


def test_every_queue_is_consumed_once(services):
    """Each queue has one kind of worker."""
    consumed = [
        word
        for service in services.values()
        for before, word in zip(service["command"].split(), service["command"].split()[1:], strict=False)
        if before == "-Q"
    ]

    assert sorted([FLUSH_QUEUE, MAINTENANCE_QUEUE]) == sorted(consumed)


def test_redis_keeps_what_is_pending(services):
    """Redis writes an append-only file, and never evicts a key without a TTL."""
    command = services["redis"]["command"]

    assert "--appendonly yes" in command
    assert "--maxmemory-policy volatile-" in command or "--maxmemory-policy noeviction" in command


def test_services_come_back(services):
    """Every service is started again when it ends, and has a health check where there is something to ask."""
    assert {"unless-stopped"} == {service["restart"] for service in services.values()}
    assert WITHOUT_HEALTH_CHECK == {name for name, service in services.items() if "healthcheck" not in service}


def test_processes_wait_for_healthy_servers(services):
    """No process starts before the servers are healthy."""
    for name in set(services) - SERVERS:
        conditions = {server: wait["condition"] for server, wait in services[name]["depends_on"].items()}
        assert dict.fromkeys(SERVERS, "service_healthy") == conditions, name


def test_data_is_in_named_volumes(compose, services):
    """The servers' data outlives their containers."""
    volumes = {services[name]["volumes"][0].partition(":")[0] for name in SERVERS}

    assert set(compose["volumes"]) == volumes


def test_only_loopback_is_published(services):
    """Without access control nothing is open to the network."""
    ports = [port for service in services.values() for port in service.get("ports", [])]

    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports), ports
