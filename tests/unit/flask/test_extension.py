"""The extension: one pipeline for each application, configured as Flask applications are."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask, current_app

from tests.unit.web.conftest import problem
from writebehind import Pipeline, Settings, WritebehindError
from writebehind.errors import ConfigurationError, InvalidDocumentError, RedisUnavailableError
from writebehind.flask import Writebehind
from writebehind.flask.configuration import OF_THE_SERVICE, settings_of
from writebehind.local.embedded import free_port
from writebehind.settings.running import DATA_DIR, STATE_FILE


class Publisher:
    """What would publish."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.closed = False

    def __call__(self, wanted: object) -> None:
        pass

    def close(self) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch, tmp_path) -> None:
    """Nothing in the environment, and no `writebehind.toml` here."""
    monkeypatch.chdir(tmp_path)
    for variable in ("REDIS_URL", "MONGODB_URL", "MONGODB_DATABASE", "BROKER_URL", "WRITEBEHIND_CONFIG"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def at_exit(monkeypatch) -> list[Callable[[], Any]]:
    """What was registered to be called at the end of the process, the last first, as it is called then."""
    calls: list[Callable[[], Any]] = []
    monkeypatch.setattr("atexit.register", lambda call: calls.insert(0, call))
    return calls


def app(**config: object) -> Flask:
    """An application without servers."""
    made = Flask("shop")
    made.config.update({"WRITEBEHIND_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"} | config)
    return made


def settings(**config: object) -> Settings:
    return settings_of(app(**config).config)


def test_settings_are_those_of_the_configuration():
    """Each by its name in capitals, collections as dictionaries."""
    found = settings(
        WRITEBEHIND_REDIS_URL="redis://redis.example:6380/2",
        WRITEBEHIND_MONGODB_URL="mongodb://mongodb.example/",
        WRITEBEHIND_MONGODB_DATABASE="shop",
        WRITEBEHIND_BROKER_URL="redis://broker.example/1",
        WRITEBEHIND_PARTITIONS=4,
        WRITEBEHIND_DEFAULTS={"ttl": 60},
        WRITEBEHIND_COLLECTIONS={"users": {"id": "int"}},
    )

    assert ("redis://redis.example:6380/2", "shop", 4) == (
        found.redis_url,
        found.mongodb_database,
        found.partitions,
    )
    assert ("mongodb://mongodb.example/", "redis://broker.example/1") == (found.mongodb_url, found.broker_url)
    assert (60, "int") == (found.collections["users"].ttl, found.collections["users"].id)


def test_prefixed_variables_of_flask(monkeypatch):
    """`FLASK_WRITEBEHIND_…`, which Flask reads into the configuration, has the same names."""
    monkeypatch.setenv("FLASK_WRITEBEHIND_PARTITIONS", "4")
    monkeypatch.setenv("FLASK_WRITEBEHIND_COLLECTIONS__users__ttl", "60")
    made = app()
    made.config.from_prefixed_env()

    found = settings_of(made.config)

    assert (4, 60) == (found.partitions, found.collections["users"].ttl)


def test_a_system_that_runs_here_is_found(tmp_path):
    """As by `connect()`, where nothing names a server; what the configuration says stands."""
    state = {
        "redis_url": "redis://127.0.0.1:1/0",
        "mongodb_url": "mongodb://127.0.0.1:2/",
        "mongodb_database": "here",
    }
    (tmp_path / DATA_DIR).mkdir()
    (tmp_path / DATA_DIR / STATE_FILE).write_text(json.dumps(state | {"pid": os.getpid()}))

    found = settings_of(Flask("shop", root_path=str(tmp_path)).config)
    named = settings(WRITEBEHIND_MONGODB_DATABASE="shop")

    assert state == found.model_dump(include=set(state))
    assert ("shop", True) == (named.mongodb_database, named.redis_url != state["redis_url"])


def test_the_environment_and_the_file_say_what_the_configuration_does_not(monkeypatch, tmp_path):
    """So that an application, its worker and the commands can share one file."""
    (tmp_path / "writebehind.toml").write_text("partitions = 2\nlease_ms = 20000\n[collections.users]\nttl = 1\n")
    monkeypatch.setenv("MONGODB_DATABASE", "from_the_environment")
    monkeypatch.setenv("WRITEBEHIND_LEASE_MS", "30000")

    found = settings(WRITEBEHIND_PARTITIONS=4)

    assert (4, 30_000, "from_the_environment") == (found.partitions, found.lease_ms, found.mongodb_database)
    assert 1 == found.collections["users"].ttl


def test_servers_of_the_application_itself_are_not_taken():
    """`REDIS_URL` and its likes in a configuration may be what its cache or its sessions use."""
    found = settings(REDIS_URL="redis://sessions.example/", MONGODB_DATABASE="theirs")

    assert "sessions" not in found.redis_url
    assert "writebehind" == found.mongodb_database


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        (
            "PARTITION",
            4,
            r"^WRITEBEHIND_PARTITION: there is no such setting, do you mean WRITEBEHIND_PARTITIONS\?$",
        ),
        ("NONSENSE", 4, r"^WRITEBEHIND_NONSENSE: there is no such setting$"),
        ("PARTITIONS", 0, r"^WRITEBEHIND_PARTITIONS: "),
        ("PARTITIONS", "many", r"^WRITEBEHIND_PARTITIONS: "),
        ("REDIS_URL", "http://h/", r"^WRITEBEHIND_REDIS_URL must start with"),
        ("COLLECTIONS", {"users": {"tll": 1}}, r"^WRITEBEHIND_COLLECTIONS\.users\.tll: "),
        ("DEFAULTS", {"tll": 1}, r"^WRITEBEHIND_DEFAULTS\.tll: "),
    ],
)
def test_a_wrong_setting_is_named(key, value, said):
    """By the name that the configuration has for it, in one line."""
    with pytest.raises(ConfigurationError, match=said) as caught:
        settings(**{f"WRITEBEHIND_{key}": value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", sorted(OF_THE_SERVICE))
def test_settings_of_the_service_are_refused(name):
    """They would have no effect, and nobody would notice."""
    assert name in Settings.model_fields
    with pytest.raises(ConfigurationError, match=f"WRITEBEHIND_{name.upper()} has no effect here"):
        settings(**{f"WRITEBEHIND_{name.upper()}": "1"})


def test_no_password_is_told():
    """An error is logged, and passed on."""
    with pytest.raises(ConfigurationError) as caught:
        settings(WRITEBEHIND_REDIS_URL="http://user:secret@h/")
    assert "secret" not in str(caught.value)


def test_an_application_has_its_pipeline(at_exit):
    """In its extensions; one that is initialised later as well; it starts although Redis does not answer yet."""
    one, two = app(WRITEBEHIND_PARTITIONS=2), app(WRITEBEHIND_PARTITIONS=4)
    extension = Writebehind(one)
    pipeline = extension.init_app(two)

    assert pipeline is two.extensions["writebehind"]
    for made, partitions in ((one, 2), (two, 4)):
        with made.app_context():
            assert made.extensions["writebehind"] is extension.pipeline
            assert partitions == extension.pipeline.settings.partitions
    for close in at_exit:
        close()


def test_an_application_has_one_pipeline(at_exit):
    """A second one would be a mistake: two connections, two threads for everything."""
    made = app()
    extension = Writebehind(made)

    with pytest.raises(ConfigurationError, match="already"):
        extension.init_app(made)
    for close in at_exit:
        close()


def test_no_pipeline_without_an_application():
    """It is that of the application in which the code runs."""
    with pytest.raises(RuntimeError, match="application context"):
        Writebehind().collection("users")


def test_everything_is_closed_at_the_end(at_exit, monkeypatch):
    """The pipeline first, as what it does last may want a flush; then who publishes flushes."""
    publishers: list[Publisher] = []
    order: list[str] = []
    monkeypatch.setattr(Pipeline, "close", lambda _: order.append(f"pipeline, {publishers[0].closed}"))

    Writebehind(app(), publisher=lambda made: publishers.append(Publisher(made)) or publishers[0])
    for close in at_exit:
        close()

    assert (["pipeline, False"], True) == (order, publishers[0].closed)


def test_the_publisher_takes_flushes_and_refreshes(at_exit):
    """It is made from the settings of the application."""
    made = app(WRITEBEHIND_PARTITIONS=2)
    pipeline = Writebehind(publisher=Publisher).init_app(made)

    assert 2 == pipeline._hints.settings.partitions
    assert pipeline._hints is pipeline.revalidation._refreshes
    for close in at_exit:
        close()


def test_a_given_pipeline_is_its_owners(installation, at_exit):
    """A test passes its own; the configuration is not looked at, and nobody closes it."""
    made = app(WRITEBEHIND_NONSENSE=1)

    assert installation.pipeline is Writebehind(pipeline=installation.pipeline).init_app(made)
    assert [] == at_exit


@pytest.fixture
def shop(installation) -> Flask:
    """An application whose own views use the pipeline."""
    made = app()
    users = Writebehind(made, pipeline=installation.pipeline)

    @made.put("/customers/<name>")
    def customer(name: str) -> dict[str, Any]:
        users.collection("users").put(name, {"name": name})
        return users.collection("users").get(name)

    @made.get("/wrong")
    def wrong() -> None:
        raise InvalidDocumentError("it is wrong")

    @made.get("/away")
    def away() -> None:
        assert current_app.extensions["writebehind"] is users.pipeline
        raise RedisUnavailableError("it is away")

    return made


def test_views_write_and_read_their_own_writes(shop):
    """By the collections of the pipeline."""
    assert {"_id": "ada", "name": "ada"} == shop.test_client().put("/customers/ada").json


def test_errors_of_views_are_problems(shop):
    """Where a view lets them pass; errors of the application are its own."""
    client = shop.test_client()

    problem(client.get("/wrong"), 422, "invalid-document")
    away = client.get("/away")
    problem(away, 503, "redis-unavailable")
    assert "1" == away.headers["Retry-After"]
    assert "text/html" == client.get("/nothing").mimetype


@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("kind", [WritebehindError, InvalidDocumentError])
def test_handlers_of_the_application_come_first(installation, first, kind):
    """Whether they were registered before the extension or after it."""
    made = app()

    def own(error: Exception) -> tuple[str, int]:
        return f"the shop says {error}", 418

    if first:
        made.register_error_handler(kind, own)
    Writebehind(made, pipeline=installation.pipeline)
    if not first:
        made.register_error_handler(kind, own)

    @made.get("/wrong")
    def wrong() -> None:
        raise InvalidDocumentError("it is wrong")

    answer = made.test_client().get("/wrong")
    assert (418, "the shop says it is wrong") == (answer.status_code, answer.text)
