"""docker-compose.yml runs what the Procfile runs, safely, and the image has what was tested.

Docker is not run: the file is held against Compose's schema, the product's settings and itself.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import tomllib
from importlib import resources
from importlib.metadata import requires
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import jsonschema_rs
import pytest
import yaml
from click.testing import CliRunner
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from redis import Redis

from tests.waiting import wait_until
from writebehind import load_settings
from writebehind.access.keys import Token, new_id
from writebehind.alive import OLD_AFTER_S
from writebehind.celery import names
from writebehind.cli import cli
from writebehind.local.embedded import valkey_binary
from writebehind.local.up import read_procfile
from writebehind.redis.topology.addresses import named_servers
from writebehind.settings.installation import ENV_PREFIX, Settings

ROOT = Path(__file__).parents[2]
PROFILES = {"single", "sentinel", "cluster", "servers", "rabbitmq"}
#: The servers that share the partitions, by the names that they have in REDIS_URL.
SHARDS = {name: f"shard-{name}" for name in "abc"}
#: Make the nodes a cluster, and the first key; and end.
ONCE = {"cluster", "key"}
URLS = {"REDIS_URL", "BROKER_URL", "MONGODB_URL", "MONGODB_DATABASE"}
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
    ours = {name: service for name, service in services.items() if service["image"] == "writebehind"}
    return {name: service for name, service in ours.items() if name not in ONCE}


@pytest.fixture(scope="module")
def servers(services) -> dict:
    return {name: service for name, service in services.items() if service["image"] != "writebehind"}


def variables(profile: str) -> dict[str, str]:
    """What `--env-file` gives Compose for a profile; that of `single` is read without being named."""
    file = ROOT / ".env" if profile == "single" else ROOT / f"deploy/compose/{profile}.env"
    lines = [one for one in file.read_text("utf-8").splitlines() if not one.startswith("#")]
    return dict(one.split("=", 1) for one in lines)


def interpolated(text: str, given: dict[str, str]) -> str:
    """A value as Compose reads it: with variables, or what stands for those that are missing or empty."""
    return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda found: given.get(found[1]) or found[2], text)


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
    for name in ("redis", *SHARDS.values()):
        redis = options(services[name])
        assert redis["--appendonly"] == "yes", name
        assert redis["--appendfsync"] in {"everysec", "always"}, name
        policy = redis["--maxmemory-policy"]
        assert policy.startswith("volatile-") or policy == "noeviction", name
    assert options(services["broker"])["--maxmemory-policy"] == "noeviction"


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
    """Every service is started again when it ends, and is asked whether it works; some end when they are done."""
    restarts = {name: service["restart"] for name, service in services.items()}

    assert dict.fromkeys(services, "unless-stopped") | dict.fromkeys(ONCE, "on-failure") == restarts
    assert ONCE == {name for name, service in services.items() if "test" not in service["healthcheck"]}


def test_every_process_has_the_key_that_is_made_first(services, processes, tmp_path):
    """One service makes a key in a volume, and all others wait for it; what is there already stays."""
    words = shlex.split(services["key"]["command"])
    assert words[:3] == ["writebehind", "keys", "generate"]
    assert services["key"]["volumes"] == ["keys:/keys"]
    for name, one in processes.items():
        assert one["environment"]["WRITEBEHIND_ROOT_KEY_FILE"] == words[3], name
        assert one["depends_on"]["key"] == {"condition": "service_completed_successfully"}, name
        assert "keys:/keys:ro" in one["volumes"], name
    made = tmp_path / "root"
    for _ in range(2):
        assert CliRunner().invoke(cli, ["keys", "generate", str(made)]).exit_code == 0
        assert made.stat().st_mode & 0o777 == 0o600
        first = made.read_text()
    assert first == made.read_text()
    assert Token.parse(first.strip())


def test_processes_that_no_port_is_asked_of_are_watched_by_a_file(processes):
    """The probe looks at the file that the process touches, in a directory of its own, and gives it its time."""
    watched = {name for name, one in processes.items() if "WRITEBEHIND_ALIVE_FILE" in one["environment"]}

    assert watched == {"worker", "maintenance", "beat", "listen"}
    for name in watched:
        file = processes[name]["environment"]["WRITEBEHIND_ALIVE_FILE"]
        probe = processes[name]["healthcheck"]["test"][-1].replace("$$", "$")
        assert f"stat -c %Y {file})" in probe, name
        assert f"-lt {OLD_AFTER_S}" in probe, name
        assert str(Path(file).parent) in processes[name]["tmpfs"], name


def test_the_file_is_one_of_compose(compose):
    """Compose's own schema takes it."""
    place = resources.files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json"
    validator = jsonschema_rs.validator_for(json.loads(place.read_text("utf-8")))

    assert [] == [f"{one.instance_path}: {one.message}" for one in validator.iter_errors(compose)]


def test_every_service_has_limits_and_no_rights(services):
    """Nothing can be written but volumes and /tmp; logs, memory, CPU and processes are bounded."""
    for name, service in services.items():
        limits = service["deploy"]["resources"]["limits"]
        assert {"cpus", "memory", "pids"} == limits.keys(), name
        assert (["ALL"], True, ["/tmp"]) == (service["cap_drop"], service["read_only"], service["tmpfs"]), name  # noqa: S108
        assert ["no-new-privileges:true"] == service["security_opt"], name
        assert {"max-size", "max-file"} == service["logging"]["options"].keys(), name
        assert "cap_add" not in service, name
        assert "privileged" not in service, name


def test_servers_are_pinned_and_not_root(servers):
    """Each server's image, and that which ours is built on, has a digest; none starts as root."""
    dockerfile = (ROOT / "Dockerfile").read_text("utf-8")
    images = {service["image"] for service in servers.values()} | set(
        re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)
    )

    assert [] == [one for one in images if not re.fullmatch(r"[a-z/]+:[\w.-]+@sha256:[0-9a-f]{64}", one)]
    assert {"valkey", "mongodb", "rabbitmq"} == {service["user"] for service in servers.values()}


def test_redis_has_room_besides_its_data(servers):
    """A container takes twice what its data may, as the append-only file is rewritten beside it."""
    for name in ("redis", "broker"):
        data_mb = {"mb": 1, "gb": 1024}[options(servers[name])["--maxmemory"][-2:]]
        data_mb *= int(options(servers[name])["--maxmemory"][:-2])
        memory = servers[name]["deploy"]["resources"]["limits"]["memory"]
        assert int(memory[:-1]) * {"M": 1, "G": 1024}[memory[-1]] >= 2 * data_mb, name


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_a_profile_has_what_its_urls_name(servers, processes, profile):
    """Hosts of each URL are servers that the profile starts, on their ports; all of it is waited for."""
    given = variables(profile)
    started = {name for name, one in servers.items() if profile in one.get("profiles", [profile])}
    urls = [interpolated(processes["web"]["environment"][name], given) for name in ("REDIS_URL", "BROKER_URL")]
    named = {host.partition(":")[0] for url in urls for host in re.findall(r"[\w-]+:\d+", url)}

    assert given["COMPOSE_PROFILES"] == profile
    assert named <= started
    schemes = {"sentinel": "redis+sentinel", "cluster": "redis+cluster", "servers": "a=redis"}
    assert schemes.get(profile, "redis") == urls[0].split("://")[0]
    waited = {name for name in processes["web"]["depends_on"] if name in started}
    behind = {name for one in waited for name in servers[one].get("depends_on", {})}
    assert started == waited | behind
    if profile == "servers":
        listed = {one: urlsplit(url).hostname for one, url in named_servers(urls[0]).items()}
        assert SHARDS == listed
    if profile == "cluster":
        assert [f"node-{number}" for number in range(1, 7)] == servers["cluster"]["command"][3:]
        assert "broker" in named


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_a_profile_gives_nothing_but_what_is_read(compose, profile):
    """Each variable of its file stands in the Compose file, which no other profile's is needed for."""
    text = (ROOT / "docker-compose.yml").read_text("utf-8")

    assert [] == [name for name in variables(profile).keys() - {"COMPOSE_PROFILES"} if f"${{{name}:-" not in text]
    assert PROFILES == {name for service in compose["services"].values() for name in service.get("profiles", [])}


@pytest.mark.parametrize(("role", "name"), [("server", "redis-1"), ("server", "redis-2"), ("node", "node-1")])
def test_valkey_keeps_what_it_is_started_with(tmp_path, role, name):
    """A real server takes what the script writes, and what it notes there itself, such as who leads, stays."""
    script = (ROOT / "deploy/compose/valkey.sh").read_text("utf-8").replace("/data", str(tmp_path))
    (tmp_path / "valkey.sh").write_text(script.replace("redis-1 6379", "127.0.0.1 1"), "utf-8")
    command = f'exec {valkey_binary()} "$@" --port 0 --unixsocket {tmp_path}/socket'
    for tool, line in (("hostname", f"echo {name}"), ("valkey-server", command)):
        (tmp_path / tool).write_text(f"#!/bin/sh\n{line}\n", "utf-8")
        (tmp_path / tool).chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    start = ["sh", tmp_path / "valkey.sh", role]
    for samples in ("5", "7"):
        with (
            subprocess.Popen(start, env=environment, stdout=subprocess.DEVNULL) as server,
            Redis(unix_socket_path=str(tmp_path / "socket"), decode_responses=True) as client,
        ):
            try:
                wait_until(lambda: client.config_get("appendonly"), "Valkey to answer, also without its primary")
                found = client.config_get("appendonly", "replicaof", "cluster-enabled", "maxmemory-samples")
                client.config_set("maxmemory-samples", 7)
                client.config_rewrite()
            finally:
                server.kill()
        assert found == {
            "appendonly": "yes",
            "replicaof": "127.0.0.1 1" if name == "redis-2" else "",
            "cluster-enabled": "yes" if role == "node" else "no",
            "maxmemory-samples": samples,
        }


def test_nothing_is_stopped_in_the_middle_of_a_batch(processes):
    """A container gets more time to stop than one operation of MongoDB may take."""
    longest = load_settings().mongodb_timeout_ms / 1000

    for name, service in processes.items():
        assert int(service["stop_grace_period"].removesuffix("s")) > longest, name


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_the_settings_accept_the_environment(processes, monkeypatch, tmp_path, profile):
    """Every variable is a setting, and the file that names the collections is mounted where it is looked for."""
    given = variables(profile)
    for name, service in processes.items():
        environment = {variable: interpolated(value, given) for variable, value in service["environment"].items()}
        source, target, mode = service["volumes"][0].split(":")
        assert (environment["WRITEBEHIND_CONFIG"], "ro") == (target, mode), name
        assert "./schemas:/srv/schemas:ro" == service["volumes"][1], name
        monkeypatch.chdir(ROOT)
        key = tmp_path / "root"
        key.write_text(f"{Token.new(new_id()).text}\n")
        environment["WRITEBEHIND_ROOT_KEY_FILE"] = str(key)
        for variable, value in (environment | {"WRITEBEHIND_CONFIG": source}).items():
            assert variable.startswith(ENV_PREFIX) or variable in URLS
            monkeypatch.setenv(variable, value)
        settings = load_settings()
        assert (environment["REDIS_URL"], "0.0.0.0") == (settings.redis_url, settings.host), name  # noqa: S104
        assert environment["BROKER_URL"] == settings.broker_url
        assert "localhost" in settings.allowed_hosts
        assert settings.collections, name
        assert settings.root_key == key.read_text().strip(), name


def test_data_is_in_named_volumes(compose, servers, processes):
    """The servers' data outlives their containers, and so do the counts, which all processes share."""
    named = [one.partition(":")[0] for server in servers.values() for one in server["volumes"] if one[0] != "."]
    counts = {one["volumes"][2] for one in processes.values()}

    assert counts == {f"metrics:{processes['web']['environment']['WRITEBEHIND_METRICS_DIR']}"}
    assert set(compose["volumes"]) == {*named, "metrics", "keys", "flower"}
    assert len(named) == len(set(named))


def test_flower_keeps_what_it_has_seen(processes):
    """Its file is in a volume of its own, to which the image's user may write."""
    flower, web = processes["flower"], processes["web"]
    directory = str(Path(flower["environment"]["WRITEBEHIND_FLOWER_DB"]).parent)

    assert flower["volumes"] == [*web["volumes"], f"flower:{directory}"]
    assert flower["environment"].keys() - web["environment"].keys() == {"WRITEBEHIND_FLOWER_DB"}
    [made] = re.findall(r"install -d -o 10001 (.*)", (ROOT / "Dockerfile").read_text("utf-8"))
    assert directory in made.split()


def test_only_loopback_is_published(services):
    """Nothing is open to the network, unless it is told to be; and no server is."""
    ports = {name: interpolated(port, {}) for name, one in services.items() for port in one.get("ports", [])}

    assert {"web", "exporter", "flower"} == ports.keys()
    assert all(port.startswith("127.0.0.1:") for port in ports.values()), ports


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


def test_receipts_leave_the_memory_to_documents(services):
    """As many as are kept by default take a small part of it, as nothing takes that back for a day."""
    most = Settings.model_fields["idempotency_most"].default * Settings.model_fields["partitions"].default
    receipt_bytes = 340
    number, unit = re.fullmatch(r"(\d+)(mb|gb)", options(services["redis"])["--maxmemory"]).groups()
    memory = int(number) << {"mb": 20, "gb": 30}[unit]
    assert most * receipt_bytes < memory / 10
