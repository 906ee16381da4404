"""MongoDB: its version and topology, and whether it takes what is written to it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from writebehind.doctor.findings import Finding, failure, ok, warning
from writebehind.errors import MongoUnavailableError
from writebehind.indexes import LookupIndex, lookup_indexes
from writebehind.pipeline import Pipeline
from writebehind.rawbson import VERSION_FIELD

OLDEST = (5, 0)


def check(pipeline: Pipeline) -> Iterator[Finding]:
    """Everything about MongoDB."""
    try:
        version_now = pipeline.sink.command("buildInfo")["version"]
        hello = pipeline.sink.command("hello", admin=True)
        validators = pipeline.sink.validators()
    except MongoUnavailableError as error:
        yield failure("mongodb", str(error), "start it, or set MONGODB_URL")
        return
    yield version(version_now)
    yield topology(hello)
    yield _write_concern(pipeline)
    yield from lookups(lookup_indexes(pipeline))
    settings = pipeline.settings
    for collection, schema in validators.items():
        if (collection in settings.collections or settings.allow_unlisted) and not allows_version(schema):
            yield failure(
                "mongodb validator",
                f"the validator of {collection} allows no field that it does not name, nor does it name "
                f"{VERSION_FIELD}: every document is refused",
                f'add "{VERSION_FIELD}": {{"bsonType": "long"}} to its properties',
            )


def version(found: str) -> Finding:
    """One that is tested."""
    if tuple(int(part) for part in re.findall(r"\d+", found)[:2]) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        return warning("mongodb version", found, f"nothing below {oldest} is supported")
    return ok("mongodb version", found)


def topology(hello: Mapping[str, Any]) -> Finding:
    """A replica set or a sharded cluster, with somebody who takes writes."""
    if hello.get("msg") == "isdbgrid":
        return ok("mongodb topology", "sharded; has change streams")
    if "setName" not in hello:
        return warning(
            "mongodb topology",
            "standalone: its failure is an outage, and it has no change streams",
            "make it a replica set, be it of one member: rs.initiate()",
        )
    if not hello.get("isWritablePrimary"):
        return failure(
            "mongodb topology",
            f"a member of replica set {hello['setName']} that is not its primary",
            "name all members and replicaSet in MONGODB_URL, without directConnection",
        )
    return ok("mongodb topology", f"replica set of {len(hello.get('hosts', ()))}; has change streams")


def _write_concern(pipeline: Pipeline) -> Finding:
    try:
        pipeline.sink.try_write_concern()
    except MongoUnavailableError as error:
        advice = "see that a majority of the members is up, and journals"
        return failure("mongodb write concern", str(error), advice)
    return ok("mongodb write concern", "a majority with journal acknowledges")


def lookups(indexes: Sequence[LookupIndex]) -> Iterator[Finding]:
    """Every field that documents are looked up by has a unique index."""
    missing = [f"{one.collection}.{one.field}" for one in indexes if not one.present]
    if missing:
        yield warning(
            "mongodb indexes",
            f"no unique index on {', '.join(missing)}: a lookup that is not cached reads all documents, and "
            "several documents may have the same value",
            "writebehind init creates it",
        )
    elif indexes:
        yield ok("mongodb indexes", f"{len(indexes)} fields for lookups have unique indexes")


def allows_version(schema: Mapping[str, Any]) -> bool:
    """Whether documents with `_v` satisfy a JSON Schema, as far as it lists the fields that it allows."""
    return (
        schema.get("additionalProperties", True) is not False
        or VERSION_FIELD in schema.get("properties", {})
        or any(re.search(pattern, VERSION_FIELD) for pattern in schema.get("patternProperties", {}))
    )
