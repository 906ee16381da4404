"""The library in one file: `python examples/library.py`, in the directory of a `writebehind.toml`.

It works on the servers that the settings name, else on the system that runs there, as after `make run`. It writes
a few documents to the collection `users`, with ids that begin with `example-`, and deletes them.
"""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import BaseModel, Field

from writebehind import ANY, BulkOperation, Durability, Hooks, Pipeline, connect, until_answered
from writebehind.errors import InvalidDocumentError, PreconditionFailedError

ADA, BOB, GRACE = "example-ada", "example-bob", "example-grace"


class User(BaseModel):
    """What a team's own models look like: `_id` by an alias, types that MongoDB knows."""

    id: str = Field(alias="_id")
    name: str
    born: datetime | None = None


def needs_a_name(document: dict[str, object], _document_id: object) -> None:
    """A `validate` hook: what it raises refuses the write."""
    if not document.get("name"):
        raise ValueError("a user needs a name")


def writing_and_reading(pipeline: Pipeline) -> None:
    """A write is acknowledged when Redis has it, and each read sees it from then on."""
    users = pipeline.collection("users")
    written = users.put(ADA, {"name": "Ada", "tags": []})
    print("acknowledged:", written.id, written.durability)
    print("read:", users.get(ADA))

    users.put(GRACE, User(_id=GRACE, name="Grace", born=datetime(1906, 12, 9, tzinfo=UTC)))  # a model
    users.put(BOB, {"name": "Bob"}, durability=Durability.PERSISTED)  # answered when MongoDB has it
    print("several:", users.mget([BOB, "example-nobody"]))


def changing(pipeline: Pipeline) -> None:
    """Changes are applied to what was acknowledged last, whoever else changes it at the same time."""
    users = pipeline.collection("users")
    users.patch(ADA, {"name": "Ada Lovelace", "nick": None})  # a merge patch
    users.patch(ADA, json_patch=[{"op": "add", "path": "/tags/-", "value": "poet"}])
    users.patch(ADA, lambda ada: ada | {"letters": len(ada["name"])})
    users.update(ADA, {"address": {"city": "London"}})  # sets fields, as `dict.update` does
    print("visits:", users.increment(ADA, {"visits": 1}).values)
    print("changed:", users.get(ADA))


def repeating(pipeline: Pipeline) -> None:
    """An increment that is repeated until it is answered counts once, whatever was lost in between."""
    users = pipeline.collection("users")
    counted = until_answered(lambda key: users.increment(ADA, {"visits": 1}, key=key))
    print("counted:", counted.values)


def conditions(pipeline: Pipeline) -> None:
    """A condition keeps two writers from overwriting each other; a hook keeps documents as they should be."""
    users = pipeline.collection("users")
    etag = users.read(ADA).entry.etag
    users.put(ADA, {"name": "Augusta"}, if_match=etag)
    try:
        users.put(ADA, {"name": "Ada"}, if_match=etag)
    except PreconditionFailedError:
        print("refused: somebody else was faster")
    try:
        users.update(ADA, {"name": ""}, if_match=ANY)
    except InvalidDocumentError as error:
        print("refused:", error)


def cleaning_up(pipeline: Pipeline) -> None:
    """Many writes in one go; each result is what was written, or an error that concerns no other."""
    users = pipeline.collection("users")
    done = users.bulk(
        [BulkOperation("delete", name) for name in (ADA, BOB, GRACE)], durability=Durability.PERSISTED
    )
    print("deleted:", [one.id for one in done if not isinstance(one, Exception)])


def main() -> None:
    """All of it."""
    with connect(hooks={"users": Hooks(validate=needs_a_name)}) as pipeline:
        for part in (writing_and_reading, changing, repeating, conditions, cleaning_up):
            part(pipeline)


if __name__ == "__main__":
    main()
