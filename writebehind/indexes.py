"""The unique indexes that lookups rely on."""

from __future__ import annotations

from dataclasses import dataclass

from writebehind.pipeline import Pipeline


@dataclass(frozen=True, slots=True)
class LookupIndex:
    """The index that a lookup wants, and whether MongoDB has it."""

    collection: str
    field: str
    present: bool


def lookup_indexes(pipeline: Pipeline) -> list[LookupIndex]:
    """The indexes of all fields that collections list under `lookup`.

    Raises:
        MongoUnavailableError: MongoDB does not answer, or refuses.
    """
    found = []
    for collection, settings in sorted(pipeline.settings.collections.items()):
        if settings.lookup:
            indexes = pipeline.sink.indexes(collection).values()
            unique = {one["key"][0][0] for one in indexes if one.get("unique") and len(one["key"]) == 1}
            found += [LookupIndex(collection, field, field in unique) for field in settings.lookup]
    return found
