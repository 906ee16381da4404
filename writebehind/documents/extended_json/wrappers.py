"""The wrappers of MongoDB Extended JSON, such as `{"$oid": ...}`, and the native values that they stand for.

`bson.json_util` defines them. It reads some too generously, so that each is read here, by the functions of
`writebehind.documents.grammar`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from bson import json_util
from bson.binary import Binary, UuidRepresentation
from bson.code import Code
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.datetime_ms import DatetimeMS
from bson.dbref import DBRef
from bson.int64 import Int64
from bson.max_key import MaxKey
from bson.min_key import MinKey
from bson.objectid import ObjectId
from bson.regex import Regex
from bson.timestamp import Timestamp

from writebehind.documents import dbrefs, grammar
from writebehind.documents.deprecated_types import DBPointer, Symbol, Undefined

# Dates are datetimes wherever Python has one, and every other date of BSON survives. A UUID stays a `Binary`,
# as one of any length may stand in MongoDB.
DECODING: Final[CodecOptions[dict[str, Any]]] = CodecOptions(
    document_class=dict,
    tz_aware=True,
    uuid_representation=UuidRepresentation.UNSPECIFIED,
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
)
JSON_OPTIONS: Final = json_util.JSONOptions(
    tz_aware=True,
    uuid_representation=UuidRepresentation.UNSPECIFIED,
    datetime_conversion=DatetimeConversion.DATETIME_MS,
)

# As they stand in BSON; none twice.
_REGEX_OPTIONS: Final = re.compile(r"(?:([ilmsux])(?!.*\1))*")
# mongoexport wrote subtypes beyond 0x7f as negative numbers.
_NEGATIVE_SUBTYPE: Final = re.compile(r"ffffff(?=[89a-f][0-9a-f])")


def native_value(document: dict[str, Any], name: str) -> Any:
    """Read what may be a wrapper.

    Args:
        document: A parsed JSON object whose own parts have been read.
        name: One of its names, that begins with `$`.

    Returns:
        The value that the wrapper stands for, or the document itself where it is none.

    Raises:
        BSONError, ValueError, TypeError and others: The wrapper has a wrong value.
    """
    if len(document) == 1 and (reader := _READERS.get(name)):
        return reader(document[name])
    match document:
        case {"$ref": _}:
            return _dbref(document)
        case {"$code": code, "$scope": scope, **others} if not others:
            return _code(code, scope)
        case {"$regex": str(pattern), **others} if others.keys() <= {"$options"}:
            return _regex({"pattern": pattern, "options": others.get("$options", "")})
        case {"$binary": text, "$type": kind, **others} if not others:
            kind = f"{kind:02x}" if type(kind) is int else _NEGATIVE_SUBTYPE.sub("", _text(kind), count=1)
            return _binary({"base64": text, "subType": kind})
    return document


def _text(value: Any) -> str:
    if type(value) is not str:
        raise TypeError("the value must be a text")
    return value


def _unsigned(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= grammar.UINT32_MAX:
        raise ValueError(f"a number from 0 to {grammar.UINT32_MAX} is needed")
    return value


def _date(value: Any) -> datetime | DatetimeMS:
    if type(value) is str:
        return grammar.date(value)
    if type(value) not in (int, Int64):
        raise TypeError("a date is ISO 8601 text or an integer")
    return DatetimeMS(int(value)).as_datetime(DECODING)


def _binary(value: Any) -> bytes:
    text, subtype = _two(value, "base64", "subType")
    data, kind = grammar.base64(_text(text)), grammar.hex_byte(_text(subtype))
    return Binary(data, kind) if kind else data


def _regex(value: Any) -> Regex[str]:
    pattern, options = _two(value, "pattern", "options")
    if not _REGEX_OPTIONS.fullmatch(_text(options)):
        raise ValueError("the options are some of i, l, m, s, u and x, each once")
    return Regex(_text(pattern), options)


def _timestamp(value: Any) -> Timestamp:
    seconds, number = _two(value, "t", "i")
    return Timestamp(_unsigned(seconds), _unsigned(number))


def _code(text: Any, scope: Any) -> Code:
    if type(scope) is not dict:
        raise TypeError("the scope must be an object")
    return Code(_text(text), scope)


def _two(value: Any, first: str, second: str) -> tuple[Any, Any]:
    if type(value) is not dict or value.keys() != {first, second}:
        raise TypeError(f"an object of {first} and {second} is needed")
    return value[first], value[second]


def _only(value: Any, wanted: Any) -> None:
    if type(value) is not type(wanted) or value != wanted:
        raise TypeError(f"the value must be {wanted}".lower())


def _undefined(value: Any) -> Undefined:
    _only(value, True)
    return Undefined()


def _min_key(value: Any) -> MinKey:
    _only(value, 1)
    return MinKey()


def _max_key(value: Any) -> MaxKey:
    _only(value, 1)
    return MaxKey()


def _dbref(document: dict[str, Any]) -> Any:
    others = dict(document)
    collection, identifier, database = (others.pop(name, None) for name in ("$ref", "$id", "$db"))
    named = type(collection) is str and "$id" in document and (type(database) is str or "$db" not in document)
    if not named or any(name[:1] == "$" for name in others):
        return document
    if len(others) > dbrefs.MOST_FIELDS:
        raise dbrefs.too_long()
    return DBRef(collection, identifier, database, others)


def _db_pointer(value: Any) -> DBPointer:
    # What is in it looks like a DBRef, and has been read as one.
    is_plain = type(value) is DBRef and dbrefs.fields(value).keys() == {"$ref", "$id"}
    if not is_plain or type(value.id) is not ObjectId:
        raise TypeError("an object of $ref and $id, an ObjectId, is needed")
    return DBPointer(value.collection, value.id)


_READERS: Final[dict[str, Callable[[Any], Any]]] = {
    "$oid": lambda value: grammar.object_id(_text(value)),
    "$date": _date,
    "$numberInt": lambda value: grammar.integer(_text(value), grammar.INT32_MIN, grammar.INT32_MAX),
    "$numberLong": lambda value: Int64(grammar.integer(_text(value))),
    "$numberDouble": lambda value: grammar.double(_text(value)),
    "$numberDecimal": lambda value: grammar.decimal(_text(value)),
    "$binary": _binary,
    "$uuid": lambda value: Binary.from_uuid(grammar.uuid(_text(value)), UuidRepresentation.STANDARD),
    "$regularExpression": _regex,
    "$timestamp": _timestamp,
    "$minKey": _min_key,
    "$maxKey": _max_key,
    "$code": lambda value: Code(_text(value)),
    "$symbol": lambda value: Symbol(_text(value)),
    "$undefined": _undefined,
    "$dbPointer": _db_pointer,
}
