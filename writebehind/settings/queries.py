"""Queries in the settings: what is written there is MongoDB's own language, in Extended JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import cached_property
from itertools import permutations
from math import isfinite
from typing import Annotated, Any, Literal, Self

from bson import DatetimeMS, Decimal128, Int64
from bson.errors import BSONError
from pydantic import BaseModel, ConfigDict, Field, model_validator

from writebehind.documents import codec, grammar
from writebehind.documents.deprecated_types import DBPointer, Symbol, Undefined
from writebehind.documents.extended_json.wrappers import native_value
from writebehind.documents.ids import MAX_ID_BYTES, DocumentId, read_id, whole
from writebehind.documents.raw_bson import VERSION_FIELD
from writebehind.errors import InvalidDocumentError, InvalidIdError, RequestError
from writebehind.mql.filters import compile_filter
from writebehind.settings.bounds import Seconds

#: A field of a document, or of one within it, and the direction: 1 up, -1 down.
Sort = dict[str, Literal[1, -1]]
ParameterType = Literal["string", "int", "number", "boolean", "date", "objectid", "uuid"]

#: The most documents that a query may warm, and that one may answer with.
MOST_WARMED, MOST_ANSWERED = 100_000, 1_000
#: The names that a query may have, as part of a path; and those of its parameters.
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
#: Operators that run code in the server.
_CODE = {"$where", "$function", "$accumulator"}
_BOOLEANS = {"true": True, "false": False}
_ANY_TEXT = r"(?s:.*)"


def native(value: Any) -> Any:
    """A value as BSON has it, from Extended JSON that is parsed already.

    Raises:
        ValueError: it is no Extended JSON, names code to run, or is something that MongoDB is not asked for.
    """
    match value:
        case datetime() if value.tzinfo is None:
            raise ValueError(f"{value} needs a time zone, such as Z")
        case dict():
            if code := _CODE & value.keys():
                raise ValueError(f"{min(code)} is not allowed: it runs code in MongoDB")
            inner = {name: native(one) for name, one in value.items()}
            name = next((one for one in inner if one[:1] == "$"), None)
            try:
                found = inner if name is None else native_value(inner, name)
            except (TypeError, ValueError, BSONError) as error:
                raise ValueError(f"{value} is not Extended JSON: {error}") from error
            if isinstance(found, DBPointer | Symbol | Undefined):
                raise ValueError(f"{name} is deprecated, and no driver asks MongoDB for it")  # noqa: TRY004
            return found
        case list():
            return [native(one) for one in value]
    return value


def read_argument(given: object, kind: ParameterType) -> Any:
    """The value of a parameter as BSON has it: from a text, as in a URL, or from a native value.

    Raises:
        RequestError: it is no value of this type.
    """
    try:
        match kind:
            case "number":
                return _number(given)
            case "boolean":
                return given if isinstance(given, bool) else _BOOLEANS[str(given)]
            case "date":
                return _date(given)
        return DocumentId.of("", read_id(given, kind, _ANY_TEXT)).value
    except (InvalidIdError, ArithmeticError, KeyError, TypeError, ValueError) as error:
        raise RequestError(f"this is no value of type {kind}, of up to {MAX_ID_BYTES} bytes") from error


def _number(given: object) -> Int64 | float | Decimal128:
    """One form of all numbers that MongoDB takes for equal: a 64-bit integer, else a double where there is one."""
    if isinstance(given, str):
        grammar.double(given)
    elif isinstance(given, bool) or not isinstance(given, int | float | Decimal128):
        raise TypeError
    exact = given.to_decimal() if isinstance(given, Decimal128) else Decimal(given)
    found = whole(exact)
    if found is not None:
        return Int64(found)
    nearest = float(exact)
    if isinstance(given, Decimal128) and exact.is_finite() and nearest != exact:
        return given
    # A text such as 0.1 or 1e300 means the nearest double, as it does in JSON; but no integer means another one.
    is_integer = isinstance(given, int) or (isinstance(given, str) and given.lstrip("+-").isdecimal())
    if not isfinite(nearest) or not nearest or (is_integer and nearest != exact):
        raise ValueError
    return nearest


def _date(given: object) -> datetime | DatetimeMS:
    if isinstance(given, str):
        return grammar.date(given)
    if isinstance(given, DatetimeMS):
        return given
    if not isinstance(given, datetime) or given.tzinfo is None:
        raise ValueError("a date needs a time zone, such as Z")
    return given.astimezone(UTC)


class _Query(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    filter: dict[str, Any] = Field({}, description="which documents, as for MongoDB's `find`, in Extended JSON")
    sort: Sort = Field({}, description="their order: a field and 1 or -1")

    @cached_property
    def native(self) -> dict[str, Any]:
        """The filter as BSON has it."""
        found: dict[str, Any] = native(self.filter)
        return found

    @model_validator(mode="after")
    def _check_filter(self) -> Self:
        filter_ = native(self.filter)
        if type(filter_) is not dict:
            raise ValueError("filter must be a document")
        try:
            codec.encode({"filter": filter_, "sort": self.sort})
        except InvalidDocumentError as error:
            raise ValueError(f"MongoDB cannot be asked for this: {error}") from error
        return self


class WarmQuery(_Query):
    """Documents that are kept warm, whoever reads them."""

    limit: Annotated[int, Field(gt=0, le=MOST_WARMED)] = Field(1_000, description="how many of them")


class NamedQuery(_Query):
    """A query that clients may ask for by its name, and whose results are cached."""

    limit: Annotated[int, Field(gt=0, le=MOST_ANSWERED)] = Field(100, description="how many of them")
    projection: dict[str, Literal[0, 1]] = Field(
        {}, description="which of their fields: those with 1, or all but those with 0"
    )
    parameters: dict[str, ParameterType] = Field(
        {}, description='what a request has to give, with its type; in the filter `{ "$param" = "city" }`'
    )
    ttl: Seconds = Field(60, description="seconds for which is remembered which documents MongoDB has found")

    def arguments(self, given: Mapping[str, object]) -> dict[str, Any]:
        """The values of all parameters as BSON has them, from texts, as in a URL, or native values.

        Raises:
            RequestError: one is missing, unknown, or no value of its type.
        """
        if given.keys() != self.parameters.keys():
            wanted = ", ".join(f"{name} ({kind})" for name, kind in self.parameters.items()) or "none"
            raise RequestError(f"the parameters of this query are: {wanted}")
        found = {}
        for name, kind in self.parameters.items():
            try:
                found[name] = read_argument(given[name], kind)
            except RequestError as error:
                raise RequestError(f"{name}: {error}") from error
        return found

    def bound(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The filter with the parameters' values in their places."""
        bound: dict[str, Any] = _bind(self.native, arguments)
        return bound

    @model_validator(mode="after")
    def _check(self) -> Self:
        named = set(_parameters_in(self.native))
        if named != self.parameters.keys():
            raise ValueError(
                f"the filter names the parameters {sorted(named)}, but parameters lists {sorted(self.parameters)}"
            )
        for name in self.parameters:
            if not NAME.fullmatch(name):
                raise ValueError(f"parameters: {name!r} is not a usable name")
        compile_filter(self.bound(dict.fromkeys(self.parameters)))
        if VERSION_FIELD in {*_names_in(self.native), *self.sort, *self.projection}:
            raise ValueError(f"{VERSION_FIELD} is the pipeline's own, and no part of a document")
        _check_paths(self.sort, "sort")
        _check_paths(self.projection, "projection")
        if len({wanted for name, wanted in self.projection.items() if name != "_id"}) > 1:
            raise ValueError("projection: either list fields with 1, or with 0")
        return self


def _bind(value: Any, arguments: Mapping[str, Any]) -> Any:
    match value:
        case {"$param": str() as name, **others} if not others:
            return arguments[name]
        case dict():
            return {name: _bind(one, arguments) for name, one in value.items()}
        case list():
            return [_bind(one, arguments) for one in value]
    return value


def _parameters_in(value: Any) -> list[str]:
    match value:
        case {"$param": str() as name, **others} if not others:
            return [name]
        case dict():
            return [name for one in value.values() for name in _parameters_in(one)]
        case list():
            return [name for one in value for name in _parameters_in(one)]
    return []


def _names_in(filter_: Any) -> list[str]:
    match filter_:
        case dict():
            return [*filter_, *(name for one in filter_.values() for name in _names_in(one))]
        case list():
            return [name for one in filter_ for name in _names_in(one)]
    return []


def _check_paths(paths: Mapping[str, int], what: str) -> None:
    for path in paths:
        if not all(path.split(".")) or "$" in path:
            raise ValueError(f"{what}: {path!r} is not a field, or a path such as address.city")
    for one, other in permutations(paths, 2):
        if other.startswith(f"{one}."):
            raise ValueError(f"{what}: {other!r} is a part of {one!r}")
