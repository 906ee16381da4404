"""Native values as orjson can write them: in the wrappers of MongoDB Extended JSON, such as `{"$oid": ...}`."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from math import isfinite, isnan
from typing import Any, Final

from bson import json_util
from bson.binary import Binary
from bson.code import Code
from bson.datetime_ms import DatetimeMS
from bson.dbref import DBRef
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from bson.objectid import ObjectId

from writebehind.documents import dbrefs
from writebehind.documents.deprecated_types import DBPointer, Symbol, Undefined
from writebehind.documents.extended_json.wrappers import JSON_OPTIONS

_FIRST_COMMON_YEAR: Final = 1970
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - dates that become text are decoded without time zones
_MILLISECOND: Final = timedelta(milliseconds=1)


def write(value: Any) -> Any:
    """Return the wrapper of a value that orjson does not know."""
    writer = _WRITERS.get(type(value))
    return writer(value) if writer else json_util.default(value, JSON_OPTIONS)


def _write_date(value: datetime) -> Any:
    if value.year < _FIRST_COMMON_YEAR:
        return {"$date": {"$numberLong": str((value - _EPOCH) // _MILLISECOND)}}
    return {"$date": value.isoformat(timespec="milliseconds" if value.microsecond else "seconds") + "Z"}


def _write_binary(value: bytes, subtype: int = 0) -> Any:
    return {"$binary": {"base64": b64encode(value).decode(), "subType": f"{subtype:02x}"}}


def _write_code(value: Code) -> Any:
    return {"$code": str(value)} if value.scope is None else {"$code": str(value), "$scope": value.scope}


# The rest is rare and holds nothing else.
_WRITERS: Final[dict[type, Callable[[Any], Any]]] = {
    ObjectId: lambda value: {"$oid": value.binary.hex()},
    datetime: _write_date,
    Int64: int,
    Decimal128: lambda value: {"$numberDecimal": str(value)},
    bytes: _write_binary,
    Binary: lambda value: _write_binary(value, value.subtype),
    Code: _write_code,
    DBRef: dbrefs.fields,
    Symbol: lambda value: {"$symbol": value.text},
    Undefined: lambda _: {"$undefined": True},
    DBPointer: lambda value: {"$dbPointer": {"$ref": value.collection, "$id": value.id}},
}


Writers = Mapping[type, Callable[[Any], Any]]


def spell_out(value: Any, writers: Writers) -> Any:
    """Replace the values of some types by their wrappers, wherever they are."""
    kind = type(value)
    if kind is dict:
        return {name: spell_out(item, writers) for name, item in value.items()}
    if kind is list:
        return [spell_out(item, writers) for item in value]
    if kind in (DBRef, Code):
        return spell_out(write(value), writers)
    writer = writers.get(kind)
    return value if writer is None else writer(value)


def _write_double(value: float) -> dict[str, str]:
    special = "NaN" if isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return {"$numberDouble": repr(value) if isfinite(value) else special}


#: What orjson would write wrongly.
SPELT_OUT: Final[Writers] = {float: lambda value: value if isfinite(value) else _write_double(value)}
#: What orjson would write without its type, or with less than all of it.
CANONICAL: Final[Writers] = {
    float: _write_double,
    int: lambda value: {"$numberInt": str(value)},
    Int64: lambda value: {"$numberLong": str(int(value))},
    DatetimeMS: lambda value: {"$date": {"$numberLong": str(int(value))}},
}
