"""The wrappers of MongoDB Extended JSON, such as `{"$oid": ...}`, and the native values that they stand for.

`bson.json_util` reads most of them; those that it reads too generously are read here.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable
from datetime import datetime
from math import isinf
from typing import Any, Final

from bson import json_util
from bson.binary import Binary, UuidRepresentation
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.datetime_ms import DatetimeMS
from bson.dbref import DBRef
from bson.int64 import Int64
from bson.objectid import ObjectId
from bson.regex import Regex

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

# What the texts in wrappers must look like.
_ANY_TEXT: Final = re.compile(r".*", re.DOTALL)
_OBJECT_ID: Final = re.compile(r"[0-9a-fA-F]{24}")
_INTEGER: Final = re.compile(r"[-+]?[0-9]{1,19}")
_SUBTYPE: Final = re.compile(r"[0-9a-fA-F]{1,2}")
_REGEX_OPTIONS: Final = re.compile(r"[ilmsux]*")
_COMMON_DATE: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{3})?Z", re.ASCII)


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
    if len(document) == 1:
        reader = _READERS.get(name)
        return reader(document[name]) if reader else json_util.object_hook(document, JSON_OPTIONS)
    match document:
        case {"$ref": _}:
            return _dbref(document)
        case {"$code": _, "$scope": _, **others} if not others:
            return json_util.object_hook(document, JSON_OPTIONS)
        case {"$regex": pattern, "$options": options, **others} if not others:
            return _regex({"pattern": pattern, "options": options})
        case {"$binary": text, "$type": kind, **others} if not others:
            # mongoexport wrote subtypes beyond 0x7f as negative numbers: ffffff80.
            kind = f"{kind:02x}" if type(kind) is int else kind.removeprefix("ffffff")
            return _binary({"base64": text, "subType": kind})
    return document


def _text(value: Any, form: re.Pattern[str] = _ANY_TEXT) -> str:
    if type(value) is not str or not form.fullmatch(value):
        raise ValueError("this is not the text that the type needs")
    return value


def _integer(value: Any, bits: int) -> int:
    number = int(_text(value, _INTEGER))
    if not -(1 << bits - 1) <= number < 1 << bits - 1:
        raise ValueError(f"that does not fit {bits} bits")
    return number


def _double(value: Any) -> float:
    number = float(_text(value))
    if isinf(number) and "inf" not in value.lower():
        raise ValueError("that is beyond what a double can hold")
    return number


def _date(value: Any) -> datetime | DatetimeMS:
    if type(value) is str and _COMMON_DATE.fullmatch(value):
        return datetime.fromisoformat(value)
    if type(value) not in (str, int, Int64):
        raise TypeError("a date is ISO 8601 text or an integer")
    # By way of whole milliseconds, as BSON has no microseconds and Python not every year.
    date: DatetimeMS = json_util.object_hook({"$date": value}, JSON_OPTIONS)
    return date.as_datetime(DECODING)


def _binary(value: Any) -> bytes:
    base64, subtype = _two(value, "base64", "subType")
    data, kind = b64decode(_text(base64), validate=True), int(_text(subtype, _SUBTYPE), 16)
    return Binary(data, kind) if kind else data


def _regex(value: Any) -> Regex[str]:
    pattern, options = _two(value, "pattern", "options")
    return Regex(_text(pattern), _text(options, _REGEX_OPTIONS))


def _two(value: Any, first: str, second: str) -> tuple[Any, Any]:
    if type(value) is not dict or value.keys() != {first, second}:
        raise TypeError(f"an object of {first} and {second} is needed")
    return value[first], value[second]


def _undefined(value: Any) -> None:
    if value is not True:
        raise TypeError("the value must be true")


def _dbref(document: dict[str, Any]) -> Any:
    others = dict(document)
    collection, identifier, database = (others.pop(name, None) for name in ("$ref", "$id", "$db"))
    named = type(collection) is str and "$id" in document and (type(database) is str or "$db" not in document)
    if not named or any(name[:1] == "$" for name in others):
        return document
    return DBRef(collection, identifier, database, others)


_READERS: Final[dict[str, Callable[[Any], Any]]] = {
    # ObjectId(None) would be a new one.
    "$oid": lambda value: ObjectId(_text(value, _OBJECT_ID)),
    "$date": _date,
    "$numberInt": lambda value: _integer(value, 32),
    "$numberLong": lambda value: Int64(_integer(value, 64)),
    "$numberDouble": _double,
    "$binary": _binary,
    "$regularExpression": _regex,
    "$symbol": _text,
    "$undefined": _undefined,
}
