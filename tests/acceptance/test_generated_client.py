"""A client that a program makes of the description does what the API is for."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from tests.acceptance.servers import WebServer, web_server
from tests.tiers import long
from tests.waiting import wait_until

pytestmark = [pytest.mark.acceptance, long]

SCRIPTS = Path(sysconfig.get_path("scripts"))
KEY = f"wb_{'0' * 12}_{'k' * 43}"
#: What the generator leaves out, and why.
LEFT_OUT = {
    "POST /v1/{collection}:bulk": "it knows no lines of JSON, and sends the array that is offered too",
    "PATCH /v1/{collection}/{id}": "of two forms with schemas of their own it would fail at both: no JSON Patch",
    "GET /admin/dead-letters:export": "it knows no lines of JSON: the answer's bytes are there, unread",
}


@pytest.fixture(scope="module")
def server(system) -> Iterator[WebServer]:
    """A web process that asks for a key, on the servers and with the workers of the system."""
    with web_server(system, WRITEBEHIND_ROOT_KEY=KEY, MONGODB_DATABASE=system.stack.mongodb_database) as served:
        yield served


@pytest.fixture(scope="module")
def generated(server, tmp_path_factory) -> SimpleNamespace:
    """What the generator says, and the package that it makes."""
    folder = tmp_path_factory.mktemp("generated")
    done = subprocess.run(
        [
            *(SCRIPTS / "openapi-python-client", "generate", "--meta", "none"),
            *("--url", f"http://127.0.0.1:{server.port}/openapi.json", "--output-path", folder / "made_client"),
        ],
        env=os.environ | {"PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout + done.stderr
    assert 0 == done.returncode, said
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield SimpleNamespace(said=said, package=importlib.import_module("made_client"))


@pytest.fixture
def client(server, generated):
    """One that the generated package has, with the key."""
    base_url = f"http://127.0.0.1:{server.port}"
    made = generated.package.AuthenticatedClient(base_url=base_url, token=KEY, raise_on_unexpected_status=True)
    with made as one:
        yield one


def function_of(name: str) -> ModuleType:
    """The module of an operation."""
    return importlib.import_module(f"made_client.api.{name}")


def test_every_warning_is_explained(generated):
    """Nothing is left out of the client but what it is known not to understand."""
    warned = re.findall(r"^WARNING parsing (\w+ \S+) within", generated.said, re.MULTILINE)
    assert sorted(LEFT_OUT) == sorted(warned), generated.said
    assert "Unable to" not in generated.said


def test_documents(generated, client):
    """It puts, gets, patches, increments, and writes in bulk."""
    models = importlib.import_module("made_client.models")
    pages, buffered = models.Collection("pages"), models.Durability.BUFFERED
    bodies = {"n": 1, "text": "x"}
    written = function_of("documents.put_document").sync(
        pages, "made", client=client, body=models.Document.from_dict(bodies), durability=buffered
    )
    assert ("made", models.Durability.BUFFERED) == (written.id, written.durability)

    patch = models.PatchDocumentJsonBody.from_dict({"text": None, "more": [1]})
    assert (
        written.version
        < function_of("documents.patch_document").sync(pages, "made", client=client, body=patch).version
    )
    numbers = models.Numbers.from_dict({"n": 4})
    for _ in range(2):
        counted = function_of("documents.increment_document").sync(
            pages, "made", client=client, body=numbers, idempotency_key="once-only"
        )
        assert {"n": 5} == counted.values.to_dict()

    got = function_of("documents.get_document").sync(pages, "made", client=client)
    assert {"_id": "made", "n": 5, "more": [1]} == got.to_dict()
    operations = [
        models.Operation(op=models.OperationOp.PUT, id="made-2", doc={"n": 2}),
        models.Operation(op=models.OperationOp.DELETE, id="made"),
        models.Operation(op=models.OperationOp.PATCH, id="made-none", doc={}),
    ]
    results = function_of("documents.bulk_write").sync(pages, client=client, body=operations).results
    assert [200, 204, 404] == [one.status for one in results]
    several = function_of("documents.get_documents").sync(
        pages, client=client, body=models.Ids(ids=["made", "made-2"])
    )
    assert (["made"], {"n": 2, "_id": "made-2"}) == (several.missing, several.documents["made-2"].to_dict())
    gone = function_of("documents.get_document").sync_detailed(pages, "made", client=client)
    assert (404, "urn:problem-type:writebehind:not-found") == (gone.status_code, gone.parsed.type_)


def test_dead_letters(system, generated, client):
    """It lists dead letters, shows, replays and discards them."""
    models = importlib.import_module("made_client.models")
    events, refused = models.Collection("pages"), {"validator": {"refused": {"$exists": False}}}
    put = function_of("documents.put_document").sync_detailed
    persisted = models.Durability.PERSISTED
    assert 200 == put(events, "first", client=client, body=models.Document(), durability=persisted).status_code
    system.database.command("collMod", "pages", **refused)
    for one in ("dead-1", "dead-2"):
        body = models.Document.from_dict({"refused": True})
        answer = put(events, one, client=client, body=body, durability=persisted)
        assert (422, "urn:problem-type:writebehind:dead-letter") == (answer.status_code, answer.parsed.type_)
    listed = function_of("operation.list_dead_letters").sync(client=client, collection="pages")
    assert ({"dead-1", "dead-2"}, {models.Reason.REFUSED}) == (
        {one.id for one in listed.dead_letters},
        {one.reason for one in listed.dead_letters},
    )
    letter = function_of("operation.get_dead_letter").sync(events, "dead-1", client=client)
    assert ("dead-1", {"_id": "dead-1", "refused": True}) == (letter.id, letter["document"])
    system.database.command("collMod", "pages", validator={})

    assert 1 == function_of("operation.replay_dead_letter").sync(events, "dead-1", client=client).replayed
    assert 1 == function_of("operation.discard_dead_letter").sync(events, "dead-2", client=client).discarded

    wait_until(lambda: system.database["pages"].find_one("dead-1"), "the replayed letter in MongoDB")
    assert not function_of("operation.list_dead_letters").sync(client=client, collection="pages").dead_letters
    assert function_of("operation.get_status").sync(client=client).dead_letters >= 0


def test_without_the_key(server, generated):
    """Whoever has no key is told so by an answer that the client understands."""
    pages = importlib.import_module("made_client.models").Collection("pages")
    with generated.package.Client(base_url=f"http://127.0.0.1:{server.port}") as stranger:
        refused = function_of("documents.get_document").sync_detailed(pages, "made", client=stranger)
    assert (401, 401) == (refused.status_code, refused.parsed.status)
