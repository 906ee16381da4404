"""The unique indexes that lookups rely on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from writebehind.errors import ConfigurationError, MongoUnavailableError
from writebehind.pipeline import Pipeline

#: Options with which a unique index does not hold for all values as they stand.
_NARROWING = ("partialFilterExpression", "collation")


@dataclass(frozen=True, slots=True)
class LookupIndex:
    """The index that a lookup wants, and whether MongoDB has it.

    Attributes:
        collection: whose.
        field: that documents are looked up by.
        present: whether there is a unique index on it.
        in_the_way: name of another index on the field, which may keep MongoDB from creating it; '' for none.
        fault: what that one lacks: `is not unique`, or `holds only for some values`.
    """

    collection: str
    field: str
    present: bool
    in_the_way: str = ""
    fault: str = ""


def lookup_indexes(pipeline: Pipeline) -> list[LookupIndex]:
    """The indexes of all fields that collections list under `lookup`.

    Raises:
        MongoUnavailableError: MongoDB does not answer, or refuses.
    """
    found = []
    for collection, settings in sorted(pipeline.settings.collections.items()):
        if settings.lookup:
            indexes = pipeline.sink.indexes(collection)
            found += [_found(collection, field, indexes) for field in settings.lookup]
    return found


@dataclass(frozen=True, slots=True)
class Outcome:
    """Outcome for an index that a lookup wants.

    Attributes:
        index: which.
        done: `present`, `missing`, `created` or `refused`.
        why: it was refused; '' if it was not.
    """

    index: LookupIndex
    done: str
    why: str = ""


def create_lookup_indexes(pipeline: Pipeline, *, dry_run: bool = False) -> Iterator[Outcome]:
    """Create the indexes that are missing; with `dry_run` none.

    Raises:
        MongoUnavailableError: MongoDB does not answer when it is asked which there are.
    """
    for one in lookup_indexes(pipeline):
        if one.present or dry_run:
            yield Outcome(one, "present" if one.present else "missing")
            continue
        try:
            pipeline.sink.create_unique_index(one.collection, one.field)
        except (ConfigurationError, MongoUnavailableError) as error:
            yield Outcome(one, "refused", str(error))
        else:
            yield Outcome(one, "created")


def _found(collection: str, field: str, indexes: Mapping[str, Mapping[str, Any]]) -> LookupIndex:
    in_the_way = fault = ""
    for name, index in indexes.items():
        key = list(index["key"])
        if len(key) != 1 or key[0][0] != field or key[0][1] not in {1, -1}:
            continue
        if index.get("unique") and not any(option in index for option in _NARROWING):
            return LookupIndex(collection, field, present=True)
        if key[0][1] == 1:
            in_the_way, fault = name, "holds only for some values" if index.get("unique") else "is not unique"
    return LookupIndex(collection, field, present=False, in_the_way=in_the_way, fault=fault)
