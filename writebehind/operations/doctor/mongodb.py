"""MongoDB: its version and topology, and whether it takes what is written to it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pymongo.errors import ConfigurationError as PyMongoConfigurationError

from writebehind.documents.raw_bson import VERSION_FIELD
from writebehind.errors import MongoRefusesError, MongoUnavailableError
from writebehind.mongodb.deployment import CollectionInfo
from writebehind.mongodb.error_table import NO_ANSWER
from writebehind.operations.doctor.findings import PATIENCE_S, Finding, away, failure, ok, warning
from writebehind.operations.indexes import LookupIndex, lookup_indexes
from writebehind.pipeline import Pipeline
from writebehind.plurals import counted
from writebehind.remedies import answers_with_errors, broken
from writebehind.settings.names import COLLECTION_NAME
from writebehind.settings.running import process_of

OLDEST = (5, 0)
#: What the driver says where nothing has refused it, and no answer has come.
_HANGS = ("timed out", NO_ANSWER)
_LOG = "see what its log says, as that its disk is full"


def check(pipeline: Pipeline) -> Iterator[Finding]:
    """Every check of MongoDB. A fact that it refuses to tell is a finding, and does not stop the others."""
    sink = pipeline.sink
    try:
        sink.ping(timeout_s=PATIENCE_S)
        hello = sink.hello()
    except MongoUnavailableError as error:
        is_old = isinstance(error.__cause__, PyMongoConfigurationError)
        hangs = any(one in str(error) for one in _HANGS)
        see_to_it = away(pipeline.settings, "mongodb", hangs=hangs, reason=str(error))
        if answers_with_errors(str(error)):
            found = f"MongoDB answers with an error: {str(error).removeprefix('MongoDB does not answer: ')}"
            yield failure("mongodb", found, broken(process_of("mongodb", pipeline.settings.mongodb_url)))
            return
        advice = "use a newer server, of which the driver knows" if is_old else see_to_it
        yield failure("mongodb", str(error), advice)
        return
    yield _version(pipeline)
    yield topology(hello)
    if has_streams(hello):
        yield _change_stream(pipeline)
    yield _write_concern(pipeline)
    for part in (_lookups, _collections, _shard_keys if hello.get("msg") == "isdbgrid" else _none):
        try:
            yield from part(pipeline)
        except MongoUnavailableError as error:
            yield failure(
                "mongodb", str(error), f"{_LOG}; or let its user read {pipeline.settings.mongodb_database}"
            )


def _version(pipeline: Pipeline) -> Finding:
    try:
        return version(str(pipeline.sink.command("buildInfo").get("version", "it does not say which")))
    except MongoUnavailableError as error:
        return warning("mongodb version", str(error), "see which it is: this server does not say")


def has_streams(hello: Mapping[str, Any]) -> bool:
    """Whether the deployment is of a kind that has change streams."""
    return hello.get("msg") == "isdbgrid" or "setName" in hello


def version(found: str) -> Finding:
    """One that is tested."""
    if tuple(int(part) for part in re.findall(r"\d+", found)[:2]) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        return warning("mongodb version", found, f"nothing below {oldest} is supported")
    return ok("mongodb version", found)


def topology(hello: Mapping[str, Any]) -> Finding:
    """A replica set or a sharded cluster, with somebody who takes writes."""
    if hello.get("msg") == "isdbgrid":
        return ok("mongodb topology", "sharded")
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
    return ok("mongodb topology", f"replica set of {len(hello.get('hosts', ()))}")


def _change_stream(pipeline: Pipeline) -> Finding:
    try:
        pipeline.sink.try_change_stream()
    except MongoUnavailableError as error:
        advice = (
            f"{_LOG}; or let its user open one; on a server that has none, entries stay until they expire or "
            "are reconciled"
        )
        return warning("mongodb change stream", f"none opens, so changes of others are not seen: {error}", advice)
    return ok("mongodb change stream", "opens")


def _write_concern(pipeline: Pipeline) -> Finding:
    try:
        pipeline.sink.try_write_concern()
    except MongoUnavailableError as error:
        advice = f"see that a majority of the members is up, and journals; {_LOG}"
        return failure("mongodb write concern", str(error), advice)
    return ok("mongodb write concern", "a majority with journal acknowledges")


def _lookups(pipeline: Pipeline) -> Iterator[Finding]:
    yield from lookups(lookup_indexes(pipeline))


def lookups(indexes: Sequence[LookupIndex]) -> Iterator[Finding]:
    """Every field that documents are looked up by has a unique index."""
    for one in indexes:
        if one.in_the_way:
            yield warning(
                "mongodb indexes",
                f"index {one.in_the_way} on {one.collection}.{one.field} {one.fault}: several documents may have "
                "the same value, and MongoDB may create no other index on the field beside it",
                f"drop it: db.{one.collection}.dropIndex({one.in_the_way!r}); then writebehind init",
            )
    missing = [f"{one.collection}.{one.field}" for one in indexes if not one.present and not one.in_the_way]
    if missing:
        yield warning(
            "mongodb indexes",
            f"no unique index on {', '.join(missing)}: a lookup that is not cached reads all documents, and "
            "several documents may have the same value",
            "writebehind init creates it",
        )
    elif indexes and all(one.present for one in indexes):
        have = counted(len(indexes), "field for lookups has its", "fields for lookups have their")
        yield ok("mongodb indexes", f"{have} unique index")


def _none(_: Pipeline) -> Iterator[Finding]:
    yield from ()


def _shard_keys(pipeline: Pipeline) -> Iterator[Finding]:
    settings = pipeline.settings
    there = pipeline.sink.collections() if settings.allow_unlisted else {}
    ours = sorted({*settings.collections, *filter(COLLECTION_NAME.fullmatch, there)})
    try:
        found = pipeline.sink.shard_keys(ours)
    except MongoRefusesError as error:
        yield warning(
            "mongodb shard keys",
            f"config.collections may not be read, so nobody knows whether shard_key fits: {error}",
            "give its user the role clusterMonitor, or find on config.collections",
        )
        return
    wrong = [
        finding
        for name in ours
        if (finding := shard_key(name, list(pipeline.collection_settings(name).shard_key), found.get(name)))
    ]
    yield from wrong
    if found and not wrong:
        have = counted(len(found), "sharded collection has its", "sharded collections have their")
        yield ok("mongodb shard keys", f"{have} shard_key")


def shard_key(name: str, ours: Sequence[str], servers: Sequence[str] | None) -> Finding | None:
    """The settings have the fields by which a collection is sharded; nothing is said of one that is not."""
    if servers is None or set(ours or ["_id"]) == set(servers):
        return None
    have = f"its shard_key has {', '.join(ours)}" if ours else "it has no shard_key"
    return failure(
        "mongodb shard keys",
        f"{name} is sharded by {', '.join(servers)}, and {have}: its writes wait in Redis",
        f"set collections.{name}.shard_key to these fields, each with what of an id is its value",
    )


def _collections(pipeline: Pipeline) -> Iterator[Finding]:
    settings = pipeline.settings
    for name, one in sorted(pipeline.sink.collections().items()):
        if name in settings.collections or (settings.allow_unlisted and COLLECTION_NAME.fullmatch(name)):
            yield from collection(name, one)


def collection(name: str, one: CollectionInfo) -> Iterator[Finding]:
    """A collection takes and keeps every document, each under its own id."""
    if one.kind in {"view", "timeseries"}:
        what = "a view" if one.kind == "view" else "a time series"
        yield failure(
            "mongodb collection",
            f"{name} is {what}: MongoDB replaces no documents in it, so they become dead letters",
            "let another collection have that name, or take it out of the settings",
        )
    if one.options.get("capped"):
        yield failure(
            "mongodb collection",
            f"{name} is capped: MongoDB drops its oldest documents, and may refuse that one grows or is deleted",
            "copy it to a collection that is not capped, and rename that",
        )
    collation = one.options.get("collation", {})
    if collation.get("locale", "simple") != "simple":
        yield failure(
            "mongodb collection",
            f"{name} has the default collation {collation['locale']}: ids that it takes for the same are one "
            "document, so a write to one may be refused, and a deletion may reach another",
            "copy it to a collection without one, give the collation to indexes and queries, and rename that",
        )
    if one.schema is not None and not allows_version(one.schema):
        yield failure(
            "mongodb validator",
            f"the validator of {name} allows no field that it does not name, nor does it name "
            f"{VERSION_FIELD}: every document is refused",
            f'add "{VERSION_FIELD}": {{"bsonType": "long"}} to its properties',
        )


def allows_version(schema: Mapping[str, Any]) -> bool:
    """Whether documents with `_v` satisfy a JSON Schema, as far as it lists the fields that it allows."""
    return (
        schema.get("additionalProperties", True) is not False
        or VERSION_FIELD in schema.get("properties", {})
        or any(re.search(pattern, VERSION_FIELD) for pattern in schema.get("patternProperties", {}))
    )
