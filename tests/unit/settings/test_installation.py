"""Settings: defaults, the environment over the file, and one line that names what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from writebehind import CollectionSettings, Settings, load_settings
from writebehind.errors import ConfigurationError
from writebehind.settings.bounds import MEBIBYTE
from writebehind.settings.queries import NamedQuery, WarmQuery


@pytest.fixture
def toml(monkeypatch, tmp_path):
    """Write the settings file that `WRITEBEHIND_CONFIG` names."""
    path = tmp_path / "settings.toml"

    def write(text: str | bytes) -> str:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        monkeypatch.setenv("WRITEBEHIND_CONFIG", str(path))
        return str(path)

    return write


def test_defaults():
    """Without file and environment everything is local, small, and no collection is served."""
    settings = load_settings()
    expected = {
        "redis_url": "redis://127.0.0.1:6379/0",
        "mongodb_url": "mongodb://127.0.0.1:27017/",
        "mongodb_database": "writebehind",
        "host": "127.0.0.1",
        "port": 8000,
        "partitions": 64,
        "max_document_bytes": MEBIBYTE,
        "max_answer_bytes": 8 * MEBIBYTE,
        "max_bulk_bytes": 16 * MEBIBYTE,
        "allow_unlisted": False,
        "defaults": {},
        "collections": {},
        "unlisted": None,
    }
    assert expected == {name: getattr(settings, name) for name in expected}


def test_defaults_of_a_collection():
    """A collection that says nothing has string ids, is written behind, and coalesces for a second."""
    expected = CollectionSettings(id="string", write="behind", ttl=3600, negative_ttl=30, flush_delay_ms=1000)
    assert expected == load_settings(collections={"users": {}}).collections["users"]


@pytest.mark.parametrize(("broker", "expected"), [({}, "redis://a/1"), ({"broker_url": "amqp://b"}, "amqp://b")])
def test_broker(broker, expected):
    """The broker is the Redis server unless another is named."""
    assert expected == load_settings(redis_url="redis://a/1", **broker).broker


def test_file(toml):
    """What the file says holds."""
    toml('port = 9000\n[collections.users]\nid = "int"\nttl = 5\n')
    settings = load_settings()
    assert (9000, "int", 5) == (settings.port, settings.collections["users"].id, settings.collections["users"].ttl)


def test_file_in_the_working_directory(monkeypatch, tmp_path):
    """`writebehind.toml` in the working directory is read when no other file is named."""
    monkeypatch.delenv("WRITEBEHIND_CONFIG")
    monkeypatch.chdir(tmp_path)
    assert 8000 == load_settings().port
    (tmp_path / "writebehind.toml").write_text("port = 9000")
    assert 9000 == load_settings().port


def test_precedence(toml, monkeypatch):
    """Arguments win over the environment, the environment over the file, the file over the defaults."""
    toml('port = 9001\nhost = "file"\nweb_workers = 2\nmongodb_database = "file"\n')
    monkeypatch.setenv("WRITEBEHIND_PORT", "9002")
    monkeypatch.setenv("WRITEBEHIND_HOST", "environment")
    monkeypatch.setenv("MONGODB_DATABASE", "environment")
    settings = load_settings(port=9003)
    expected = (9003, "environment", 2, "environment", 8)
    assert expected == (
        *(settings.port, settings.host, settings.web_workers, settings.mongodb_database, settings.web_threads),
    )


@pytest.mark.parametrize(
    ("variable", "value", "name"),
    [
        ("REDIS_URL", "rediss://r/3", "redis_url"),
        ("REDIS_URL", "unix:///run/redis.sock", "redis_url"),
        ("WRITEBEHIND_REDIS_URL", "redis://r/3", "redis_url"),
        ("MONGODB_URL", "mongodb+srv://m/", "mongodb_url"),
        ("MONGODB_DATABASE", "d", "mongodb_database"),
        ("BROKER_URL", "redis://b/1", "broker_url"),
    ],
)
def test_names_of_servers(monkeypatch, variable, value, name):
    """Servers have the variables that are usual for them."""
    monkeypatch.setenv(variable, value)
    assert value == getattr(load_settings(), name)


def test_nested_environment(toml, monkeypatch):
    """A variable sets one setting of one collection; its others and other collections stay."""
    toml('[collections.users]\nid = "int"\nttl = 5\n[collections.pages]\nttl = 7\n')
    monkeypatch.setenv("WRITEBEHIND_COLLECTIONS__users__ttl", "60")
    collections = load_settings().collections
    assert ("int", 60, 7) == (collections["users"].id, collections["users"].ttl, collections["pages"].ttl)


def test_collections_as_json(monkeypatch):
    """Collections may be given in one variable, as JSON."""
    monkeypatch.setenv("WRITEBEHIND_COLLECTIONS", json.dumps({"users": {"id": "uuid"}}))
    assert "uuid" == load_settings().collections["users"].id


def test_defaults_are_merged(toml, monkeypatch):
    """Defaults hold for a collection that does not set its own, wherever either is written."""
    toml("[defaults]\nttl = 5\nnegative_ttl = 6\n[collections.users]\nttl = 7\n[collections.pages]\n")
    monkeypatch.setenv("WRITEBEHIND_DEFAULTS__flush_delay_ms", "8")
    found = load_settings().collections
    assert {"users": (7, 6, 8), "pages": (5, 6, 8)} == {
        name: (one.ttl, one.negative_ttl, one.flush_delay_ms) for name, one in found.items()
    }


def test_unlisted():
    """Unlisted collections have the defaults, where they are allowed at all."""
    assert load_settings(defaults={"ttl": 5}).unlisted is None
    assert CollectionSettings(ttl=5) == load_settings(defaults={"ttl": 5}, allow_unlisted=True).unlisted


def test_frozen():
    """Settings do not change after they were read."""
    settings = load_settings(collections={"users": {}})
    with pytest.raises(ValidationError, match="frozen"):
        settings.port = 1
    with pytest.raises(ValidationError, match="frozen"):
        settings.collections["users"].ttl = 1


def one_line(text: str) -> str:
    assert [text] == text.splitlines()
    return text


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"port": 0}, "port:"),
        ({"port": 65536}, "port:"),
        ({"port": "http"}, "port:"),
        ({"flower_port": -1}, "flower_port:"),
        ({"web_workers": 0}, "web_workers:"),
        ({"web_threads": 1.5}, "web_threads:"),
        ({"partitions": 0}, "partitions:"),
        ({"partitions": 4097}, "partitions:"),
        ({"max_pending_per_partition": 0}, "max_pending_per_partition:"),
        ({"batch_size": 0}, "batch_size:"),
        ({"batch_size": 10_001}, "batch_size:"),
        ({"redis_timeout_ms": 0}, "redis_timeout_ms:"),
        ({"load_timeout_ms": -1}, "load_timeout_ms:"),
        ({"persist_timeout_ms": None}, "persist_timeout_ms:"),
        ({"lease_ms": 5000, "mongodb_timeout_ms": 5000}, "mongodb_timeout_ms "),
        ({"load_timeout_ms": 4999}, "load_timeout_ms must not be below mongodb_timeout_ms"),
        ({"tombstone_ttl": 0}, "tombstone_ttl:"),
        ({"max_memory_percent": 101}, "max_memory_percent:"),
        ({"batch_size": 10, "min_batch_size": 11}, "min_batch_size "),
        ({"confirm_timeout_ms": 2000, "redis_timeout_ms": 2000}, "confirm_timeout_ms "),
        ({"collections": {"users": {"durability": "forever"}}}, "collections.users.durability:"),
        ({"sweep_interval": "soon"}, "sweep_interval:"),
        ({"overdue_ms": []}, "overdue_ms:"),
        *[({"tombstone_ttl": endless}, "tombstone_ttl:") for endless in ("inf", "nan", 1e300, 10**10)],
        ({"tombstone_ttl": 0.0009}, "tombstone_ttl:"),
        ({"warm_rate": 1e-9}, "warm_rate:"),
        ({"warm_rate": "inf"}, "warm_rate:"),
        ({"redis_timeout_ms": 10**13}, "redis_timeout_ms:"),
        ({"collections": {"users": {"ttl": "inf"}}}, "collections.users.ttl:"),
        ({"collections": {"users": {"ttl": 1e-9}}}, "collections.users.ttl:"),
        ({"collections": {"users": {"stale_if_error": "nan"}}}, "collections.users.stale_if_error:"),
        ({"collections": {"users": {"flush_delay_ms": 10**13}}}, "collections.users.flush_delay_ms:"),
        ({"max_document_bytes": 16 * MEBIBYTE}, "max_document_bytes:"),
        ({"max_bulk_bytes": 0}, "max_bulk_bytes:"),
        ({"max_bulk_items": 0}, "max_bulk_items:"),
        ({"allow_unlisted": "perhaps"}, "allow_unlisted:"),
        ({"host": 5}, "host:"),
        ({"redis_url": "http://r"}, "REDIS_URL "),
        ({"mongodb_url": "http://m"}, "MONGODB_URL "),
        ({"bogus": 1}, "bogus:"),
        ({"collections": []}, "collections:"),
        ({"collections": {"users": 5}}, "collections.users:"),
        ({"collections": {"users": {"id": "text"}}}, "collections.users.id:"),
        ({"collections": {"users": {"ttl": 0}}}, "collections.users.ttl:"),
        ({"collections": {"users": {"ttl": "x"}}}, "collections.users.ttl:"),
        ({"collections": {"users": {"negative_ttl": -1}}}, "collections.users.negative_ttl:"),
        ({"collections": {"users": {"write": "never"}}}, "collections.users.write:"),
        ({"collections": {"users": {"flush_delay_ms": -1}}}, "collections.users.flush_delay_ms:"),
        ({"collections": {"users": {"bogus": 1}}}, "collections.users.bogus:"),
        ({"collections": {"users": {"id_pattern": "("}}}, "collections.users: id_pattern "),
        ({"collections": {"users": {"schema_file": "/no/such/file"}}}, "collections.users: schema_file "),
        *[
            ({"collections": {name: {}}}, f"collections.{name}:")
            for name in ("a/b", "a b", "$a", "é", "system.users", "1a", "", ".a", "a:b", "x" * 121)
        ],
        ({"defaults": []}, "defaults:"),
        ({"defaults": {"ttl": -1}}, "defaults.ttl:"),
        ({"defaults": {"ttl": -1, "negative_ttl": -1}}, "defaults.ttl:"),
        ({"defaults": {"bogus": 1}}, "defaults.bogus:"),
        ({"defaults": {"id_pattern": "("}}, "defaults: id_pattern "),
        ({"defaults": {"schema_file": "/no/such/file"}}, "defaults: schema_file "),
        ({"defaults": {"ttl": -1}, "collections": {"users": {}}}, "collections.users.ttl:"),
    ],
)
def test_wrong_settings(given, named):
    """A wrong setting is refused with one line that begins with its name."""
    with pytest.raises(ConfigurationError) as caught:
        load_settings(**given)
    assert one_line(str(caught.value)).startswith(named)


def numbers(settings: type[BaseModel]) -> list[str]:
    """The names of settings that are numbers."""
    return [name for name, one in settings.model_fields.items() if one.annotation in {int, float}]


@pytest.mark.parametrize(
    ("settings", "name"),
    [(one, name) for one in (Settings, CollectionSettings, NamedQuery, WarmQuery) for name in numbers(one)],
    ids=lambda one: one if isinstance(one, str) else one.__name__,
)
@pytest.mark.parametrize("number", [float("inf"), float("nan"), 1e300, 10**16, 10**400, -1])
def test_each_number_is_bounded(settings, name, number):
    """No setting takes a number that Redis, MongoDB or the system do not."""
    with pytest.raises(ValidationError, match=name):
        settings(**{name: number})


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("WRITEBEHIND_PARTITION", ", do you mean WRITEBEHIND_PARTITIONS?"),
        ("WRITEBEHIND_MONGODB_URI", ", do you mean MONGODB_URL?"),
        ("WRITEBEHIND_COLLECTION__users__ttl", ", do you mean WRITEBEHIND_COLLECTIONS?"),
        ("WRITEBEHIND_NONSENSE", ""),
    ],
)
def test_a_misspelt_variable(monkeypatch, variable, hint):
    """The error names it as it was typed, and the one that is alike."""
    monkeypatch.setenv(variable, "1")
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert f"{variable}: there is no such setting{hint}" == str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("partition = 4", "partition: there is no such setting, do you mean partitions?"),
        ("nonsense = 4", "nonsense: there is no such setting"),
        ("[collections.users]\ntll = 4", "collections.users.tll: there is no such setting, do you mean ttl?"),
        ("[defaults]\ntll = 4", "defaults.tll: there is no such setting, do you mean ttl?"),
    ],
)
def test_a_misspelt_setting(toml, text, said):
    """The error names the one that is alike."""
    toml(text)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert said == str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value", "named"),
    [
        ("WRITEBEHIND_PORT", "http", "port:"),
        ("WRITEBEHIND_PORTT", "1", "WRITEBEHIND_PORTT:"),
        ("WRITEBEHIND_PORT__X", "1", "WRITEBEHIND_PORT__X:"),
        ("WRITEBEHIND_", "1", "WRITEBEHIND_:"),
        ("WRITEBEHIND_COLLECTION__users__ttl", "1", "WRITEBEHIND_COLLECTION__users__ttl:"),
        ("WRITEBEHIND_COLLECTIONS__users__tl", "1", "collections.users.tl:"),
        ("WRITEBEHIND_COLLECTIONS__users__ttl", "x", "collections.users.ttl:"),
        ("WRITEBEHIND_COLLECTIONS__users__ttl__x", "1", "collections.users.ttl:"),
        ("WRITEBEHIND_COLLECTIONS__users", "x", "collections.users:"),
        ("WRITEBEHIND_COLLECTIONS", "{", 'environment: error parsing value for field "collections"'),
        ("WRITEBEHIND_DEFAULTS", "[", 'environment: error parsing value for field "defaults"'),
        ("WRITEBEHIND_DEFAULTS__ttl", "x", "defaults.ttl:"),
        ("WRITEBEHIND_CONFIG", "/no/such/file", "WRITEBEHIND_CONFIG:"),
        ("WRITEBEHIND_CONFIG", "/", "WRITEBEHIND_CONFIG:"),
        ("WRITEBEHIND_CONFIG", "x" * 5000, "WRITEBEHIND_CONFIG:"),
        ("WRITEBEHIND_CONFIG", "no\nfile", "WRITEBEHIND_CONFIG:"),
        pytest.param(
            *("WRITEBEHIND_CONFIG", "/proc/self/mem", "WRITEBEHIND_CONFIG:"),
            marks=pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="only Linux has such a file"),
        ),
        ("WRITEBEHIND_DEFAULTS__schema_file", "x" * 5000, "defaults: schema_file "),
        ("WRITEBEHIND_WEB_WORKERS", "9" * 20, "web_workers:"),
        ("WRITEBEHIND_WEB_THREADS", "9" * 20, "web_threads:"),
        ("REDIS_URL", "redis://u:x@a..b:1/", "REDIS_URL "),
        ("REDIS_URL", "localhost:6379", "REDIS_URL "),
        ("MONGODB_URL", "", "MONGODB_URL "),
    ],
)
def test_wrong_environment(monkeypatch, variable, value, named):
    """A wrong or unknown variable is refused with one line that begins with its name."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert one_line(str(caught.value)).startswith(named)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("port =", "{path}: "),
        ("port = 1\nport = 2", "{path}: "),
        ("[collections.users\n", "{path}: "),
        (b"\xff\xfe", "{path}: "),
        ("bogus = 1", "bogus:"),
        ("port = 'x'", "port:"),
        ("collections = 5", "collections:"),
        ("[collections.users]\nbogus = 1", "collections.users.bogus:"),
    ],
)
def test_wrong_file(toml, text, named):
    """A wrong file is refused with one line that begins with its name, or with that of the setting."""
    path = toml(text)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert one_line(str(caught.value)).startswith(named.format(path=path))


def test_several_mistakes():
    """Of several mistakes the first is named, and how many more there are."""
    with pytest.raises(ConfigurationError, match=r"^host: .* \(and 1 more\)$"):
        load_settings(port=0, host=5)


def test_other_variables_are_ignored(monkeypatch):
    """Variables without the prefix are nobody's business here."""
    monkeypatch.setenv("PORT", "1")
    monkeypatch.setenv("WRITE_BEHIND_PORT", "1")
    assert 8000 == load_settings().port


@pytest.mark.parametrize("name", ["users", "_private", "a.b-c_d", "A1", "systems", "x" * 120])
def test_collection_names(name):
    """Names that are safe in a URL, a Redis key and a namespace are accepted."""
    assert [name] == list(load_settings(collections={name: {}}).collections)


def test_schema_file(tmp_path):
    """A schema file that exists is accepted."""
    path = tmp_path / "schema.json"
    path.touch()
    assert path == load_settings(collections={"users": {"schema_file": path}}).collections["users"].schema_file


CITY = {"filter": {"city": {"$param": "city"}}, "parameters": {"city": "string"}}


@pytest.mark.parametrize(
    ("query", "what"),
    [
        ({"filter": {"$where": "1"}}, r"\$where is not allowed"),
        ({"filter": {"a": {"$regex": "x"}}}, "regular expression"),
        ({"filter": {"a": {"$size": 1}}}, r"\$size is not one of"),
        ({"filter": {"a": {"$oid": "x"}}}, "not Extended JSON"),
        ({"filter": {"$oid": "64b7f0c2a1d3e4f5a6b7c8d9"}}, "must be a document"),
        ({"filter": {"city": {"$param": "city"}}}, "names the parameters"),
        ({"parameters": {"city": "string"}}, "names the parameters"),
        (CITY | {"parameters": {"city": "text"}}, "parameters.city"),
        ({"filter": {"a": {"$param": "a b"}}, "parameters": {"a b": "int"}}, "not a usable name"),
        ({"filter": {"$or": [{"_v": {"$gt": 1}}]}}, "_v is the pipeline's own"),
        ({"sort": {"_v": 1}}, "_v is the pipeline's own"),
        ({"sort": {"a": 2}}, "sort.a"),
        ({"sort": {"a..b": 1}}, "not a field"),
        ({"sort": {"a": 1, "a.b": 1}}, "is a part of"),
        ({"projection": {"a": 1, "b": 0}}, "either"),
        ({"projection": {"a.b": 1, "a": 1}}, "is a part of"),
        ({"projection": {"$a": 1}}, "not a field"),
        ({"limit": 0}, "limit"),
        ({"limit": 1001}, "limit"),
        ({"ttl": 0}, "ttl"),
        ({"skip": 1}, "skip"),
    ],
)
def test_wrong_queries(query, what):
    """A query that could never be answered is refused at the start, with its name."""
    with pytest.raises(ConfigurationError, match=rf"collections\.users\.queries\.mine.*{what}"):
        load_settings(collections={"users": {"queries": {"mine": query}}})


@pytest.mark.parametrize("field", ["limit", "after", "fields"])
def test_a_lookup_by_a_parameter_of_lists(field):
    """A request with it would ask for a list: there is no lookup by such a field."""
    with pytest.raises(ConfigurationError, match=rf"lookup: '{field}' is a parameter of lists"):
        load_settings(collections={"users": {"lookup": {field: "string"}}})


def test_wrong_name_of_a_query():
    """A name that is no part of a path is refused."""
    with pytest.raises(ConfigurationError, match="not a usable name"):
        load_settings(collections={"users": {"queries": {"a/b": {}}}})


def test_a_query_in_the_file(toml):
    """Parameters stand in the filter, and the rest is as MongoDB has it."""
    toml(
        "[collections.users.queries.in_city]\n"
        'filter = { city = { "$param" = "city" }, joined = { "$gte" = { "$date" = "2026-01-01T00:00:00Z" } } }\n'
        'sort = { joined = -1 }\nparameters = { city = "string" }\nlimit = 5\n'
    )
    query = load_settings().collections["users"].queries["in_city"]
    bound = query.bound(query.arguments({"city": "London"}))
    assert ("London", 2026, -1, 5) == (
        bound["city"],
        bound["joined"]["$gte"].year,
        query.sort["joined"],
        query.limit,
    )


@pytest.mark.parametrize(
    ("shard_key", "what"),
    [
        ({"tenant": {"pattern": "[^:]+:.*"}}, "needs one group"),
        ({"tenant": {"pattern": "(a)(b)"}}, "needs one group"),
        ({"tenant": {"pattern": "("}}, "not a regular expression"),
        ({"$tenant": {}}, "not a field"),
        ({"_v": {}}, "not a field"),
        ({"tenant": {"type": "auto"}}, "type"),
    ],
)
def test_wrong_shard_keys(shard_key, what):
    """A shard key has fields, each with a pattern of one group and a type of values."""
    with pytest.raises(ConfigurationError, match=rf"collections\.users\.shard_key.*{what}|shard_key: .*{what}"):
        load_settings(collections={"users": {"shard_key": shard_key}})


@pytest.mark.parametrize("shard_key", [{}, {"_id": {}}])
def test_a_shard_key_that_is_the_id(shard_key):
    """A collection that is sharded by its `_id` is one like any other."""
    assert load_settings(collections={"users": {"shard_key": shard_key}}).collections["users"].key is None
