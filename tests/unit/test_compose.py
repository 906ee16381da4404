"""docker-compose.yml runs what the Procfile runs, safely, and the image has what was tested."""

from __future__ import annotations

import re
import shlex
import tomllib
from importlib.metadata import requires
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from writebehind import load_settings
from writebehind.celery import names
from writebehind.local.up import read_procfile
from writebehind.settings.installation import ENV_PREFIX

ROOT = Path(__file__).parents[2]
SERVERS = {"redis", "mongo"}
#: Beat has nothing that could be asked; when it ends it is started again.
WITHOUT_HEALTH_CHECK = {"beat", "listen"}
BUILDS_THE_IMAGE = "web"
#: What listens on loopback by itself listens on all addresses in its container, which publishes it on loopback.
ADDRESSES = {"--address=127.0.0.1": "--address=0.0.0.0"}


@pytest.fixture(scope="module")
def compose() -> dict:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))


@pytest.fixture(scope="module")
def services(compose) -> dict:
    return compose["services"]


@pytest.fixture(scope="module")
def processes(services) -> dict:
    return {name: service for name, service in services.items() if name not in SERVERS}


def options(service) -> dict[str, str]:
    """A server's options, by name."""
    words = service["command"].split()
    return {word: value for word, value in pairwise(words) if word.startswith("--")}


def locked(lock: str) -> dict[str, str]:
    """A lock file's versions."""
    text = (ROOT / lock).read_text("utf-8")
    return dict(re.findall(r"^([a-z0-9._-]+)(?:\[[^]]*\])?==([^ \\]+)", text, re.MULTILINE))


def test_the_same_processes_as_in_the_procfile(processes):
    """Every process of the Procfile is a service with the same command, and every other service is a server."""
    expected = {}
    for name, command in read_procfile(ROOT / "Procfile").items():
        words = shlex.split(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", command.removeprefix("exec ")))
        expected[name] = [ADDRESSES.get(word, word) for word in words]

    assert expected == {name: shlex.split(service["command"]) for name, service in processes.items()}


def test_every_queue_is_consumed_once(processes):
    """Each queue has one kind of worker."""
    commands = [shlex.split(service["command"]) for service in processes.values()]
    consumed = [queue for words in commands if "-Q" in words for queue in words[words.index("-Q") + 1].split(",")]

    assert sorted(names.QUEUES) == sorted(consumed)


def test_redis_keeps_what_is_pending(services):
    """Redis writes an append-only file, and never evicts a key without a TTL."""
    redis = options(services["redis"])

    assert redis["--appendonly"] == "yes"
    assert redis["--appendfsync"] in {"everysec", "always"}
    assert redis["--maxmemory-policy"].startswith("volatile-") or redis["--maxmemory-policy"] == "noeviction"


def test_redis_is_unhealthy_while_it_answers_with_errors(services):
    """The health check fails on an error such as LOADING, which the client takes for success unless told."""
    assert services["redis"]["healthcheck"]["test"] == ["CMD", "valkey-cli", "-e", "ping"]


def test_mongodb_is_the_replica_set_that_is_connected_to(services, processes):
    """Server, health check and URL name the same replica set, whose member has the service's name."""
    replica_set = options(services["mongo"])["--replSet"]
    script = services["mongo"]["healthcheck"]["test"][-1]

    assert f'_id: "{replica_set}"' in script
    assert 'host: "mongo:27017"' in script
    assert {f"mongodb://mongo:27017/?replicaSet={replica_set}"} == {
        service["environment"]["MONGODB_URL"] for service in processes.values()
    }


def test_services_come_back(services):
    """Every service is started again when it ends, and has a health check where there is something to ask."""
    assert {"unless-stopped"} == {service["restart"] for service in services.values()}
    assert WITHOUT_HEALTH_CHECK == {name for name, service in services.items() if "healthcheck" not in service}


def test_processes_wait_for_healthy_servers(processes):
    """No process starts before the servers are healthy."""
    for name, service in processes.items():
        conditions = {server: wait["condition"] for server, wait in service["depends_on"].items()}
        assert dict.fromkeys(SERVERS, "service_healthy") == conditions, name


def test_nothing_is_stopped_in_the_middle_of_a_batch(processes):
    """A container gets more time to stop than one operation of MongoDB may take."""
    longest = load_settings().mongodb_timeout_ms / 1000

    for name, service in processes.items():
        assert int(service["stop_grace_period"].removesuffix("s")) > longest, name


def test_the_settings_accept_the_environment(processes, monkeypatch):
    """Every variable is a setting, and the file that names the collections is mounted where it is looked for."""
    for name, service in processes.items():
        environment = service["environment"]
        source, target, mode = service["volumes"][0].split(":")
        assert (environment["WRITEBEHIND_CONFIG"], "ro") == (target, mode), name
        monkeypatch.chdir(ROOT)
        for variable, value in (environment | {"WRITEBEHIND_CONFIG": source}).items():
            assert variable.startswith(ENV_PREFIX) or variable in {"REDIS_URL", "MONGODB_URL", "MONGODB_DATABASE"}
            monkeypatch.setenv(variable, value)
        settings = load_settings()
        assert (environment["REDIS_URL"], "0.0.0.0") == (settings.redis_url, settings.host), name  # noqa: S104
        assert settings.collections, name


def test_data_is_in_named_volumes(compose, services):
    """The servers' data outlives their containers, and so do the counts, which all processes share."""
    volumes = {services[name]["volumes"][0].partition(":")[0] for name in SERVERS}
    counts = {one["volumes"][1] for name, one in services.items() if name not in SERVERS}

    assert counts == {f"metrics:{services['web']['environment']['WRITEBEHIND_METRICS_DIR']}"}
    assert set(compose["volumes"]) == volumes | {"metrics"}


def test_only_loopback_is_published(services):
    """Without access control nothing is open to the network."""
    ports = [port for service in services.values() for port in service.get("ports", [])]

    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports), ports


def test_one_service_builds_the_image_of_all(processes):
    """The image is built once, and never taken from a registry."""
    policies = {name: service["pull_policy"] for name, service in processes.items()}

    assert {BUILDS_THE_IMAGE} == {name for name, service in processes.items() if "build" in service}
    assert dict.fromkeys(processes, "never") | {BUILDS_THE_IMAGE: "build"} == policies
    assert len({service["image"] for service in processes.values()}) == 1


def test_the_image_has_the_versions_that_are_tested():
    """The image's lock is a part of the lock for development: what the service needs, and no server, no demo."""
    production = locked("requirements-prod.lock")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]

    def names(*wanted: list[str]) -> set[str]:
        return {canonicalize_name(Requirement(text).name) for texts in wanted for text in texts} - {"writebehind"}

    needed = names(project["dependencies"], extras["celery"], extras["flask"], extras["server"])
    assert production.items() <= locked("requirements.lock").items()
    assert needed <= production.keys()
    assert not (names(extras["embedded"], extras["demo"]) - needed) & production.keys()


def test_no_celery_that_a_restart_of_redis_ends():
    """The lock has the version of Celery that was seen to survive; the bounds leave out the one that did not."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    [bounds] = project["optional-dependencies"]["celery"]

    assert "5.6.3" == locked("requirements.lock")["celery"]
    assert "5.7.0" not in Requirement(bounds).specifier


def test_mutants_are_made_of_what_is_tested():
    """What makes mutants has the versions of the other lock, where both have a package."""
    mutants, development = locked("requirements-mutants.lock"), locked("requirements.lock")

    assert "cosmic-ray" in mutants
    assert {name: development.get(name, version) for name, version in mutants.items()} == mutants


def test_the_image_is_built_by_what_is_locked():
    """The Dockerfile takes the build backend from the lock, with all that it needs."""
    dockerfile = (ROOT / "Dockerfile").read_text("utf-8")
    taken = set(re.search(r"\^\(([a-z|-]+)\)==", dockerfile)[1].split("|"))

    needed, unseen = set(), {"hatchling"}
    while unseen:
        needed |= unseen
        found = [Requirement(text) for name in unseen for text in requires(name) or []]
        unseen = {canonicalize_name(r.name) for r in found if not r.marker or r.marker.evaluate({"extra": ""})}
        unseen -= needed
    assert taken == needed
    assert taken <= locked("requirements.lock").keys()


def test_the_image_does_not_run_as_root():
    """The image's user is a number other than root's."""
    last_stage = (ROOT / "Dockerfile").read_text("utf-8").rpartition("\nFROM ")[2]

    assert int(re.search(r"^USER (\d+)$", last_stage, re.MULTILINE)[1]) > 0
