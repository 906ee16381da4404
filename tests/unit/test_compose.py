"""docker-compose.yml runs what the Procfile runs, safely, and the image has what was tested.

Docker is not run: the file is held against Compose's schema, the product's settings and itself.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from base64 import b64decode
from importlib import resources
from importlib.metadata import requires
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import jsonschema_rs
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from redis import AuthenticationError, Redis
from redis import ConnectionError as RedisConnectionError

from tests.waiting import wait_until
from writebehind import load_settings
from writebehind.access.keys import Token
from writebehind.alive import OLD_AFTER_S
from writebehind.celery import names
from writebehind.local.embedded import free_port, valkey_binary
from writebehind.local.procfile import read_procfile
from writebehind.local.supervisor import bound_to_parent
from writebehind.redis.topology.addresses import many_servers, named_servers
from writebehind.settings.installation import ENV_PREFIX, Settings

ROOT = Path(__file__).parents[2]
PROFILES = {"single", "sentinel", "cluster", "servers", "rabbitmq"}
#: The servers that share the partitions, by the names that they have in REDIS_URL.
SHARDS = {name: f"shard-{name}" for name in "abc"}
#: Make the nodes a cluster, and the first key and passwords; and end.
ONCE = {"cluster", "secrets"}
#: Those that are written to files, with passwords.
URLS = {"REDIS_URL": "redis-url", "BROKER_URL": "broker-url", "MONGODB_URL": "mongodb-url"}
#: Volumes with passwords, by where they are made.
PASSWORDS = {f"{name}-password": f"/passwords/{name}" for name in ("redis", "mongo", "rabbitmq")}
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
    """A value as Compose reads it: with variables, or what stands for those that are missing, empty, or set."""
    text = re.sub(r"\$\{(\w+):\+([^}]*)\}", lambda found: found[2] if given.get(found[1]) else "", text)
    return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda found: given.get(found[1]) or found[2], text)


def options(service) -> dict[str, str]:
    """A server's options, by name."""
    command = service["command"]
    words = (command if isinstance(command, str) else command[-1]).split()
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
    [how, command] = services["redis"]["healthcheck"]["test"]
    assert (how, command.partition(" exec ")[2]) == ("CMD-SHELL", "valkey-cli -e ping")


def test_mongodb_is_the_replica_set_that_is_connected_to(services):
    """Server, health check and URL name the same replica set, whose member has the service's name."""
    replica_set = options(services["mongo"])["--replSet"]
    script = services["mongo"]["healthcheck"]["test"][-1]

    assert f'_id: "{replica_set}"' in script
    assert 'host: "mongo:27017"' in script
    url = services["secrets"]["environment"]["MONGODB_URL"]
    assert url == f"mongodb://writebehind:PASSWORD@mongo:27017/?replicaSet={replica_set}"
    assert 'user = "writebehind"' in script


def test_services_come_back(services):
    """Every service is started again when it ends, and is asked whether it works; some end when they are done."""
    restarts = {name: service["restart"] for name, service in services.items()}

    assert dict.fromkeys(services, "unless-stopped") | dict.fromkeys(ONCE, "on-failure") == restarts
    assert ONCE == {name for name, service in services.items() if "test" not in service["healthcheck"]}


def made(services, place: Path, given: dict[str, str]) -> dict[str, str]:
    """What the service `secrets` writes for a profile, by the path within `place`."""
    environment = {name: interpolated(url, given) for name, url in services["secrets"]["environment"].items()}
    for name in ("keys", *PASSWORDS):
        part = name.removesuffix("-password")
        (place / part).mkdir(parents=True, exist_ok=True)
        environment["KEYS" if part == "keys" else f"{part.upper()}_PASSWORDS"] = str(place / part)
    environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(["sh", ROOT / "deploy/compose/secrets.sh"], env=os.environ | environment, check=True)
    return {str(one.relative_to(place)): one.read_text() for one in place.rglob("*") if one.is_file()}


def test_secrets_are_made_once_and_first(services, tmp_path):
    """All wait for them. What is there already stays; another profile's URLs have the same passwords."""
    assert services["secrets"]["command"] == "sh /secrets.sh"
    assert "./deploy/compose/secrets.sh:/secrets.sh:ro" in services["secrets"]["volumes"]
    for name, one in services.items():
        if name != "secrets":
            assert one["depends_on"]["secrets"] == {"condition": "service_completed_successfully"}, name
    first = made(services, tmp_path, variables("single"))
    second = made(services, tmp_path, variables("cluster"))
    stays = {"keys/root", "redis/password", "redis/valkey.conf", "redis/sentinel.conf", "mongo/password"}
    stays.add("rabbitmq/password")
    redis, mongo, rabbitmq = (first[f"{name}/password"] for name in ("redis", "mongo", "rabbitmq"))
    written = {"rabbitmq/definitions.json", *(f"keys/{name}" for name in URLS.values())}

    assert {*first} == {*second} == stays | written
    assert {name: first[name] for name in stays} == {name: second[name] for name in stays}
    assert Token.parse(first["keys/root"].strip())
    assert 3 == len({redis, mongo, rabbitmq})
    for password in (redis, mongo, rabbitmq):
        assert len(b64decode(f"{password}=", "-_")) * 8 == 256
    assert first["keys/redis-url"] == f"redis://:{redis}@redis:6379/0"
    third = made(services, tmp_path, variables("sentinel"))["keys/redis-url"]
    assert 2 == third.count(redis)
    assert third.endswith(f"/main/0?sentinel_password={redis}")
    assert second["keys/broker-url"] == f"redis://:{redis}@broker:6379/0"
    fourth = made(services, tmp_path, variables("rabbitmq"))["keys/broker-url"]
    assert fourth == f"amqp://writebehind:{rabbitmq}@rabbitmq:5672//"
    assert f"writebehind:{mongo}@mongo:27017" in first["keys/mongodb-url"]
    modes = {one: one.stat().st_mode & 0o777 for one in tmp_path.rglob("*") if one.is_file()}
    assert {0o600} == {mode for one, mode in modes.items() if one.parent.name == "keys"}
    # Users of other images read the rest, in volumes that are mounted where they are needed.
    assert {0o644} == {mode for one, mode in modes.items() if one.parent.name != "keys"}


def test_secrets_are_where_they_are_needed(services, processes, servers):
    """Our processes have the files with the key and the URLs, servers their own password; no variable has one."""
    files = {f"{name}_FILE": f"/keys/{file}" for name, file in URLS.items()}
    files |= {"WRITEBEHIND_ROOT_KEY_FILE": "/keys/root"}
    for name, one in processes.items():
        environment = {
            key: interpolated(value, {"BROKER_URL": "some"}) for key, value in one["environment"].items()
        }
        assert files.items() <= environment.items(), name
        assert {*URLS}.isdisjoint(environment), name
        assert "keys:/keys:ro" in one["volumes"], name
    for name, one in servers.items():
        own = name if name in {"mongo", "rabbitmq"} else "redis"
        expected = {f"{own}-password"}
        assert {f"{volume}:/password:ro" for volume in expected} == {
            volume for volume in one.get("volumes", []) if volume.partition(":")[0] in {*PASSWORDS, "keys"}
        }, name
    assert {"keys:/keys", *(f"{volume}:{place}" for volume, place in PASSWORDS.items())} < {
        *services["secrets"]["volumes"]
    }
    image = re.findall(r"install -d -o 10001 (.*)", (ROOT / "Dockerfile").read_text("utf-8"))[0].split()
    assert {"/keys", *PASSWORDS.values()} < {*image}


def test_each_server_asks_for_its_password(services, servers):
    """Valkey by a file, which it is started with; MongoDB as its members, of which there is one, have a key."""
    for name, one in servers.items():
        command = one["command"] if isinstance(one.get("command"), str) else " ".join(one.get("command", []))
        if command.startswith("valkey-server"):
            assert command.startswith("valkey-server /password/valkey.conf "), name
        elif "valkey.sh" in command:
            assert "./deploy/compose/valkey.sh:/valkey.sh:ro" in one["volumes"], name
    assert "--keyFile" in options(services["mongo"])
    assert "umask 077" in services["mongo"]["command"][-1]  # a key that others may read is refused


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
def test_a_profile_has_what_its_urls_name(services, servers, processes, profile):
    """Hosts of each URL are servers that the profile starts, on their ports; all of it is waited for."""
    given = variables(profile)
    started = {name for name, one in servers.items() if profile in one.get("profiles", [profile])}
    templates = services["secrets"]["environment"]
    urls = [interpolated(templates[name], given) for name in ("REDIS_URL", "BROKER_URL")]
    named = {host.partition(":")[0] for url in urls for host in re.findall(r"[\w-]+:\d+", url)}

    assert given["COMPOSE_PROFILES"] == profile
    assert named <= started
    schemes = {"sentinel": "redis+sentinel", "cluster": "redis+cluster", "servers": "a=redis"}
    assert schemes.get(profile, "redis") == urls[0].split("://")[0]
    waited = {name for name in processes["web"]["depends_on"] if name in started}
    behind = {name for one in waited for name in servers[one].get("depends_on", {})}
    assert started == waited | behind - {"secrets"}
    if profile == "servers":
        listed = {one: urlsplit(url).hostname for one, url in named_servers(urls[0]).items()}
        assert SHARDS == listed
    if profile == "sentinel":
        assert {"password": "PASSWORD"} == many_servers(urls[0]).sentinel
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
    script = script.replace("/password", str(tmp_path))
    (tmp_path / "valkey.sh").write_text(script.replace("redis-1 6379", "127.0.0.1 1"), "utf-8")
    (tmp_path / "valkey.conf").write_text("requirepass pw\nmasterauth pw\n")
    command = f'exec {valkey_binary()} "$@" --port 0 --unixsocket {tmp_path}/socket'
    for tool, line in (("hostname", f"echo {name}"), ("valkey-server", command)):
        (tmp_path / tool).write_text(f"#!/bin/sh\n{line}\n", "utf-8")
        (tmp_path / tool).chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    start = bound_to_parent(["sh", str(tmp_path / "valkey.sh"), role])
    for samples in ("5", "7"):
        with (
            subprocess.Popen(start, env=environment, stdout=subprocess.DEVNULL) as server,
            Redis(unix_socket_path=str(tmp_path / "socket"), password="pw", decode_responses=True) as client,  # noqa: S106
        ):
            try:
                wait_until(lambda: client.config_get("appendonly"), "Valkey to answer, also without its primary")
                found = client.config_get(
                    *("appendonly", "replicaof", "cluster-enabled", "maxmemory-samples"),
                    *("requirepass", "masterauth"),
                )
                client.config_set("maxmemory-samples", 7)
                client.config_rewrite()
            finally:
                server.kill()
        assert found == {
            "appendonly": "yes",
            "replicaof": "127.0.0.1 1" if name == "redis-2" else "",
            "cluster-enabled": "yes" if role == "node" else "no",
            "maxmemory-samples": samples,
            "requirepass": "pw",
            "masterauth": "pw",
        }


def test_sentinels_know_the_password_of_those_whom_they_watch(services, tmp_path):
    """And ask for it: also where what they have noted is of a time without, and they note it for themselves."""
    password = made(services, tmp_path, variables("sentinel"))["redis/password"]
    script = (ROOT / "deploy/compose/valkey.sh").read_text("utf-8").replace("/data", str(tmp_path))
    script = script.replace("/password", str(tmp_path / "redis")).replace("redis-1 6379", "127.0.0.1 1")
    (tmp_path / "valkey.sh").write_text(script, "utf-8")
    # As a former script has written it: the new one keeps what is there.
    noted = tmp_path / "former.conf"
    (tmp_path / "hostname").write_text("#!/bin/sh\necho sentinel-1\n", "utf-8")
    port = free_port()
    command = f'shift; exec {valkey_binary()} {noted} "$@" --sentinel --port {port}'
    (tmp_path / "valkey-sentinel").write_text(f"#!/bin/sh\n{command}\n", "utf-8")
    for tool in ("hostname", "valkey-sentinel"):
        (tmp_path / tool).chmod(0o755)
    noted.write_text(f"dir {tmp_path}\nsentinel monitor main 127.0.0.1 1 2\n")
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    start = bound_to_parent(["sh", str(tmp_path / "valkey.sh"), "sentinel"])
    for _ in range(2):
        with (
            subprocess.Popen(start, env=environment, stdout=subprocess.DEVNULL) as server,
            Redis(port=port, password=password, decode_responses=True) as client,
            Redis(port=port, decode_responses=True) as stranger,
        ):
            try:
                wait_until(lambda: _answers(client), "the Sentinel")
                with pytest.raises(AuthenticationError):
                    stranger.execute_command("SENTINEL", "REMOVE", "main")
            finally:
                server.kill()
        for told in ("auth-pass main", "sentinel-pass"):  # some versions put it into quotes
            assert 1 == len(re.findall(rf'^sentinel {told} "?{password}"?$', noted.read_text(), re.MULTILINE))


def _answers(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except RedisConnectionError:
        return False


def test_nothing_is_stopped_in_the_middle_of_a_batch(processes):
    """A container gets more time to stop than one operation of MongoDB may take."""
    longest = load_settings().mongodb_timeout_ms / 1000

    for name, service in processes.items():
        assert int(service["stop_grace_period"].removesuffix("s")) > longest, name


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_the_settings_accept_the_environment(services, processes, monkeypatch, tmp_path, profile):
    """Every variable is a setting, and the file that names the collections is mounted where it is looked for."""
    given = variables(profile)
    files = made(services, tmp_path, given)
    for name, service in processes.items():
        environment = {variable: interpolated(value, given) for variable, value in service["environment"].items()}
        source, target, mode = service["volumes"][0].split(":")
        assert (environment["WRITEBEHIND_CONFIG"], "ro") == (target, mode), name
        assert "./schemas:/srv/schemas:ro" == service["volumes"][1], name
        monkeypatch.chdir(ROOT)
        for variable, value in (environment | {"WRITEBEHIND_CONFIG": source}).items():
            assert variable.startswith(ENV_PREFIX) or variable in {
                *(f"{url}_FILE" for url in URLS),
                "MONGODB_DATABASE",
            }
            monkeypatch.setenv(variable, value.replace("/keys/", f"{tmp_path}/keys/"))
        settings = load_settings()
        assert (files["keys/redis-url"], "0.0.0.0") == (settings.redis_url, settings.host), name  # noqa: S104
        assert files["keys/broker-url"] == settings.broker_url
        assert files["keys/mongodb-url"] == settings.mongodb_url
        assert "PASSWORD" not in f"{settings.redis_url}{settings.broker_url}{settings.mongodb_url}"
        assert "localhost" in settings.allowed_hosts
        assert settings.collections, name
        assert settings.root_key == files["keys/root"].strip(), name


def test_data_is_in_named_volumes(compose, servers, processes):
    """The servers' data outlives their containers, and so do the counts, which all processes share."""
    mounted = [one.partition(":")[0] for server in servers.values() for one in server["volumes"] if one[0] != "."]
    named = [one for one in mounted if one not in PASSWORDS]
    counts = {one["volumes"][2] for one in processes.values()}

    assert counts == {f"metrics:{processes['web']['environment']['WRITEBEHIND_METRICS_DIR']}"}
    assert set(compose["volumes"]) == {*named, *PASSWORDS, "metrics", "keys", "flower"}
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


@pytest.mark.parametrize(("what", "one"), [("mutants", "cosmic-ray"), ("peers", "dogpile-cache")])
def test_what_has_a_lock_of_its_own_has_the_versions_that_are_tested(what, one):
    """Those of the other lock, where both have a package."""
    own, development = locked(f"requirements-{what}.lock"), locked("requirements.lock")

    assert one in own
    assert one not in development
    assert {name: development.get(name, version) for name, version in own.items()} == own


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
    receipt_bytes = 530
    number, unit = re.fullmatch(r"(\d+)(mb|gb)", options(services["redis"])["--maxmemory"]).groups()
    memory = int(number) << {"mb": 20, "gb": 30}[unit]
    assert most * receipt_bytes < memory / 10
