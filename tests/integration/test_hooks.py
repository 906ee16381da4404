"""Hooks: where each runs, what it sees, and what an exception of it means."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

import pytest
from bson import ObjectId
from pydantic import BaseModel, Field

from tests.integration.conftest import flush_all
from web.app import create_app
from writebehind import BulkOperation, Hooks, Pipeline
from writebehind.errors import (
    ConfigurationError,
    ConflictError,
    InvalidArgumentError,
    InvalidDocumentError,
    UnknownCollectionError,
)


class Log(list):
    """Notes what it is called with."""

    def __call__(self, *arguments):
        self.append(arguments)


class Person(BaseModel):
    id: str = Field(alias="_id")
    name: str
    born: datetime | None = None


@pytest.fixture
def hooked(settings, valkey_wire, mongo_client, hints):
    """Makes a pipeline with hooks of `users`."""

    def make(**hooks) -> Pipeline:
        return Pipeline(
            settings, hints=hints, hooks={"users": Hooks(**hooks)}, wire=valkey_wire, client=mongo_client
        )

    return make


def refuse(document, document_id):
    """Let no name be empty."""
    if not document["name"]:
        raise ValueError(f"{document_id.text} needs a name")


WRITES = {
    "put": lambda of: of.put("ada", {"name": ""}),
    "create": lambda of: of.create({"_id": "ada", "name": ""}),
    "patch": lambda of: of.patch("ada", {"name": ""}),
    "update": lambda of: of.update("ada", {"name": ""}),
    "bulk": lambda of: of.bulk([BulkOperation("put", "ada", {"name": ""})]),
    "bulk patch": lambda of: of.bulk([BulkOperation("patch", "ada", change={"name": ""})]),
    "if_match": lambda of: of.put("ada", {"name": ""}, if_match="*"),
}


@pytest.mark.parametrize("write", WRITES)
def test_validate_refuses_a_write(hooked, write):
    """What `validate` raises refuses each kind of write, with its words, and nothing is written."""
    users = hooked(validate=refuse).collection("users")
    if write != "create":
        users.put("ada", {"name": "Ada"})
    before = users.read("ada").entry

    try:
        error = WRITES[write](users)[0]
    except InvalidDocumentError as raised:
        error = raised

    assert (InvalidDocumentError, "ada needs a name") == (type(error), str(error))
    assert before == users.read("ada").entry


def test_validate_refuses_an_increment(hooked):
    """What an increment would make of a document is looked at as well."""

    def few(document, _):
        assert document["n"] < 2, "too many"

    users = hooked(validate=few).collection("users")
    users.increment("ada", {"n": 1})
    with pytest.raises(InvalidDocumentError, match="too many"):
        users.increment("ada", {"n": 1})


def test_validate_sees_what_is_stored(hooked):
    """`validate` sees the document with its `_id`, as readers get it, after `before_commit`; and a copy of it."""
    seen = Log()

    def spoil(document, document_id):
        seen.append((document, document_id.value))
        document["tags"] = document.pop("name")

    users = hooked(validate=spoil, before_commit=lambda old, _: old | {"at": datetime(2026, 1, 1, tzinfo=UTC)})
    users.collection("users").put("ada", {"name": ("Ada",)})

    assert {"_id": "ada", "name": ["Ada"], "at": datetime(2026, 1, 1, tzinfo=UTC)} == users.collection(
        "users"
    ).get("ada")
    assert "ada" == seen[0][1]


def test_the_api_answers_what_validate_says(hooked):
    """A client whose document `validate` refuses gets 422 with its words."""
    client = create_app(hooked(validate=refuse)).test_client()
    answer = client.put("/v1/users/ada", json={"name": ""})
    assert (422, "ada needs a name") == (answer.status_code, answer.json["detail"])
    assert 404 == client.get("/v1/users/ada").status_code


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (ValueError("no"), "no"),
        (AssertionError("no"), "no"),
        (KeyError("secret"), "validate does not accept this document: KeyError"),
        (ValueError(), "validate does not accept this document: ValueError"),
        (OSError("secret"), "validate does not accept this document: OSError"),
    ],
    ids=repr,
)
def test_each_exception_refuses(hooked, raised, said):
    """Whatever `validate` raises refuses the write; only what is meant for others is told to them."""

    def fail(document, document_id):
        raise raised

    with pytest.raises(InvalidDocumentError) as caught:
        hooked(validate=fail).collection("users").put("ada", {})
    assert said == str(caught.value)


def test_errors_of_ours_pass(hooked):
    """A hook can refuse by another error of ours, and `False` refuses too."""

    def conflict(document, document_id):
        raise ConflictError("later")

    with pytest.raises(ConflictError, match="later"):
        hooked(validate=conflict).collection("users").put("ada", {})
    with pytest.raises(ConflictError, match="later"):
        hooked(before_commit=conflict).collection("users").put("ada", {})
    with pytest.raises(InvalidDocumentError, match="refuses"):
        hooked(validate=lambda *_: False).collection("users").put("ada", {})


def test_a_model_validates(hooked):
    """A pydantic model's class is a validator: it says what is wrong, and repeats no more of the document."""
    users = hooked(validate=Person).collection("users")
    users.put("ada", {"name": "Ada"})
    with pytest.raises(InvalidDocumentError) as caught:
        users.put("bob", {"name": 1, "born": "never"})
    assert "name: Input should be a valid string (and 1 more)" == str(caught.value)


def test_before_commit_makes_what_is_written(hooked, stored):
    """What `before_commit` returns is what readers and MongoDB get; the caller's own document stays."""

    def stamp(document, document_id):
        document["tags"].append(document_id.text)
        return document | {"n": document.get("n", 0) + 1}

    pipeline = hooked(before_commit=stamp)
    users, own = pipeline.collection("users"), {"tags": []}
    users.put("ada", own)
    users.patch("ada", {"name": "Ada"})
    flush_all(pipeline)

    expected = {"_id": "ada", "tags": ["ada", "ada"], "n": 2, "name": "Ada"}
    assert {"tags": []} == own
    assert expected == users.get("ada")
    assert expected.items() <= stored.find_one({"_id": "ada"}).items()


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (None, "before_commit: a document must be"),
        ([], "before_commit: a document must be"),
        ({"_id": "bob"}, "differs from the id"),
        ({"_v": 1}, "reserved"),
        ({"x": {1}}, "BSON"),
    ],
    ids=repr,
)
def test_before_commit_makes_documents(hooked, made, said):
    """What is no document, or another one's, is refused whoever makes it."""
    users = hooked(before_commit=lambda *_: made).collection("users")
    with pytest.raises(InvalidDocumentError, match=said):
        users.put("ada", {})
    assert users.get("ada") is None


def test_after_persist_is_told_what_mongodb_has(hooked, stored):
    """`after_persist` gets what was persisted or deleted, which is settled by then, and nothing else."""
    told = []

    def note(persisted):
        for one in persisted:
            there = stored.find_one({"_id": one.id.value})
            told.append((one.id.collection, one.id.text, one.document, one.version, there and there["_v"]))
            pending.append(pipeline.status()["pending"])

    pending: list[int] = []
    pipeline = hooked(after_persist=note)
    users = pipeline.collection("users")
    versions = [users.put("ada", {"n": n}).version for n in range(3)]
    pipeline.collection("slow").put("other", {})
    for partition in range(pipeline.settings.partitions):
        pipeline.flusher.flush(partition)

    assert [("users", "ada", {"_id": "ada", "n": 2}, versions[-1], versions[-1])] == told
    assert [1] == pending  # which is the other one
    told.clear()
    deleted = users.delete("ada").version
    flush_all(pipeline)
    assert [("users", "ada", None, deleted, None)] == told


def test_after_persist_runs_where_a_write_waits(hooked):
    """A write that waits for MongoDB is told to the hook before it is answered, in the process that wrote."""
    told = Log()
    hooked(after_persist=told).collection("users").put("ada", {}, durability="persisted")
    assert ["ada"] == [one.id.text for (some,) in told for one in some]


def test_a_failing_after_persist_changes_nothing(hooked, stored, caplog):
    """What `after_persist` raises is logged and counted; the flush goes on, and all of it is settled."""

    def fail(persisted):
        raise RuntimeError("no")

    pipeline = hooked(after_persist=fail)
    for n in range(20):
        pipeline.collection("users").put(str(n), {"n": n})
    summaries = [pipeline.flusher.flush(partition) for partition in range(pipeline.settings.partitions)]

    failed = sum(one.hooks_failed for one in summaries)
    assert 20 == stored.count_documents({}) == sum(one.persisted for one in summaries)
    assert 0 == pipeline.status()["pending"]
    assert 1 <= failed == pipeline.status()["totals"]["hooks_failed"]
    assert failed == sum("after_persist failed for" in one.message for one in caplog.records)


def test_what_is_refused_is_not_persisted(hooked, mongo_client):
    """A document that MongoDB refuses is none that it has."""
    told = Log()
    pipeline = hooked(after_persist=told)
    mongo_client[pipeline.settings.mongodb_database]["users"].create_index("name", unique=True)
    users = pipeline.collection("users")
    users.put("ada", {"name": "Ada"}, durability="persisted")
    users.put("bob", {"name": "Ada"})
    flush_all(pipeline)

    assert ["ada"] == [one.id.text for (some,) in told for one in some]


MODULE = """
from writebehind.errors import InvalidDocumentError

told = []

class Rules:
    @staticmethod
    def check(document, document_id):
        if "name" not in document:
            raise InvalidDocumentError("a name, please")

def stamp(document, document_id):
    return document | {"stamped": True}

def note(persisted):
    told.extend(one.id.text for one in persisted)

async def later(document, document_id):
    pass

number = 1
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module of a team's own in the working directory; its name."""
    name = f"hooks_{ObjectId()}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [one for one in sys.path if one])
    return name


def with_paths(settings, **paths):
    """The same settings, with hooks of `users`."""
    own = {name: one.model_dump() for name, one in settings.collections.items()}
    own["users"]["hooks"] = paths
    return type(settings)(**settings.model_dump() | {"collections": own})


def test_settings_name_hooks(settings, module, valkey_wire, mongo_client):
    """Dotted paths in the settings lead to hooks, also in the directory that the process was started in."""
    paths = {
        "validate": f"{module}:Rules.check",
        "before_commit": f"{module}.stamp",
        "after_persist": f"{module}.note",
    }
    pipeline = Pipeline(with_paths(settings, **paths), wire=valkey_wire, client=mongo_client)
    users = pipeline.collection("users")

    with pytest.raises(InvalidDocumentError, match="a name, please"):
        users.put("ada", {})
    users.put("ada", {"name": "Ada"}, durability="persisted")
    pipeline.collection("through").put("other", {})  # which has none

    assert {"_id": "ada", "name": "Ada", "stamped": True} == users.get("ada")
    assert ["ada"] == sys.modules[module].told


def test_code_comes_before_settings(settings, module, valkey_wire, mongo_client):
    """A hook that is given in code takes the place of the one that the settings name; the others stay."""
    named = with_paths(settings, validate=f"{module}:Rules.check", before_commit=f"{module}:stamp")
    pipeline = Pipeline(
        named, wire=valkey_wire, client=mongo_client, hooks={"users": Hooks(validate=lambda *_: None)}
    )
    pipeline.collection("users").put("ada", {})
    assert {"_id": "ada", "stamped": True} == pipeline.collection("users").get("ada")


@pytest.mark.parametrize("path", ["{}:nothing", "nowhere.at_all", "{}:number", "{}:later", "{}:Rules.nothing"])
def test_wrong_paths_end_the_start(settings, module, valkey_wire, mongo_client, path):
    """A path that leads to no plain function is an error when the process starts, which names it."""
    path = path.format(module)
    with pytest.raises(ConfigurationError, match=rf"hooks\.validate {path}: "):
        Pipeline(with_paths(settings, validate=path), wire=valkey_wire, client=mongo_client)


@pytest.mark.parametrize("wrong", [1, "m.f", {"validate": print}, print], ids=repr)
def test_other_things_are_no_hooks(settings, valkey_wire, mongo_client, wrong):
    """Hooks in code are `Hooks` of functions, of collections that there are."""
    with pytest.raises(InvalidArgumentError):
        Pipeline(settings, wire=valkey_wire, client=mongo_client, hooks={"users": wrong})
    with pytest.raises(UnknownCollectionError):
        Pipeline(settings, wire=valkey_wire, client=mongo_client, hooks={"usrs": Hooks()})
    with pytest.raises(InvalidArgumentError):
        Hooks(validate=1)
