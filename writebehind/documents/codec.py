"""MongoDB Extended JSON v2 to BSON and back: relaxed or canonical on output; both and legacy on input.

Three forms of a document meet here. *JSON text* is what HTTP carries. *Native values* are what
`bson.encode` accepts and `decode` returns. *BSON* is what Redis and MongoDB keep. `bson.json_util` defines
what each means; this module is its fast path, and stricter: what it would drop, cut or make up is refused.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

import bson
import orjson
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import InvalidDocument

from writebehind.documents import dbrefs, deprecated_types
from writebehind.documents.deprecated_types import BSON_ERRORS
from writebehind.documents.extended_json.pieces import in_pieces
from writebehind.documents.extended_json.values import CANONICAL, SPELT_OUT, spell_out, write
from writebehind.documents.extended_json.wrappers import DECODING, native_value
from writebehind.documents.nesting import MAX_DEPTH, check_depth, openings, too_deep
from writebehind.errors import (
    InvalidDocumentError,
    MalformedDocumentError,
    PatchConflictError,
    UnreadableDocumentError,
)

# What a wrapper, or the envelope of a bulk request, adds to the depth of the JSON but not of the document.
_MAX_JSON_DEPTH: Final = MAX_DEPTH + 10

_ENCODING: Final = DECODING.with_options(uuid_representation=UuidRepresentation.STANDARD)
# What becomes text at once needs no time zones; without them dates decode several times as fast.
_DECODING_FOR_JSON: Final = DECODING.with_options(tz_aware=False, tzinfo=None)
_DECODING_FOR_CANONICAL: Final = _DECODING_FOR_JSON.with_options(
    datetime_conversion=DatetimeConversion.DATETIME_MS
)
# Code is a `str` and Int64 an `int`; neither may pass as one.
_ORJSON_OPTIONS: Final = (
    orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS
)


_DIGITS_TO_ZERO: Final = bytes.maketrans(b"123456789", b"000000000")
#: What an integer that orjson may turn into a float looks like when each digit is a zero.
_LONG_INTEGER: Final = b"0" * 19
_NO_DIGITS: Final = bytes(one for one in range(256) if one not in b"0123456789")

# The end of a name and a double that is infinite or not a number; also some other things.
_MAYBE_NOT_FINITE: Final = re.compile(rb"\0.{6}[\xf0-\xff][\x7f\xff]", re.DOTALL)

# What begins an embedded document, an array, and the scope of code; also much else.
_OPENING_TYPES: Final = (b"\x03", b"\x04", b"\x0f")
#: A document of more bytes becomes text in pieces.
_LARGE_BYTES: Final = 1 << 20

_SHOWN_CHARACTERS: Final = 200


# JSON text to native values ---------------------------------------------------------------------------


def loads(data: bytes) -> Any:
    """Parse Extended JSON.

    Args:
        data: JSON text, UTF-8.

    Returns:
        Native values of the types that `decode` returns: a dict for a document, aware datetimes, `DatetimeMS` for
        dates that Python has none for, UUIDs as `Binary` of subtype 4. Of equal names the last one counts.

    Raises:
        MalformedDocumentError: This is not JSON, or a wrapper such as `{"$oid": ...}` has a wrong value.
        InvalidDocumentError: A name begins with `$` and is no wrapper, or there are more than `MAX_DEPTH`
            levels.
    """
    value = parse(data)
    if may_have_wrappers(data):
        value = convert(value)
    if openings(data) > MAX_DEPTH:
        check_depth(value, MAX_DEPTH)
    return value


def may_have_wrappers(data: bytes) -> bool:
    """Whether `convert` could change what `parse` makes of this text: few documents have a name that begins so."""
    # One byte is looked for many times as fast as two, and most texts have neither.
    return (b"$" in data and b'"$' in data) or (b"\\" in data and b'"\\u0024' in data)


def parse(data: bytes) -> Any:
    """Parse JSON and leave wrappers as they are.

    Args:
        data: JSON text, UTF-8.

    Returns:
        Dicts, lists, strings, numbers, booleans and None. Integers are exact, however long.

    Raises:
        MalformedDocumentError: This is not JSON.
        InvalidDocumentError: It is nested too deep to hold a document that MongoDB could store.
    """
    try:
        tree = orjson.loads(data)
        if openings(data) > _MAX_JSON_DEPTH:
            check_depth(tree, _MAX_JSON_DEPTH)
        # orjson silently makes a float of an integer beyond 64 bits.
        if _may_have_long_integers(data):
            tree = json.loads(data)
    except ValueError as error:
        if "depth" in str(error):  # orjson 3.11 has other words for it than 3.12
            raise too_deep() from error
        raise MalformedDocumentError(f"This is not valid JSON: {error}") from error
    return tree


def _may_have_long_integers(data: bytes) -> bool:
    """Whether so many digits stand side by side that they are no 64-bit integer."""
    digits = len(_LONG_INTEGER)
    # So many of them in a row hold one of each so many bytes: most text has no digit there.
    return bool(data[digits - 1 :: digits].translate(None, _NO_DIGITS)) and (
        _LONG_INTEGER in data.translate(_DIGITS_TO_ZERO)
    )


def convert(tree: Any) -> Any:
    """Turn the wrappers in a parsed JSON tree into native values.

    Args:
        tree: What `parse` returned, or a part of it. It is not modified.

    Returns:
        A new tree of native values, as from `loads`.

    Raises:
        MalformedDocumentError: A wrapper such as `{"$oid": ...}` has a wrong value.
        InvalidDocumentError: A name begins with `$` and is no wrapper, or the nesting is too deep.
    """
    try:
        return _convert(tree)
    except RecursionError as error:
        raise too_deep() from error


def _convert(value: Any) -> Any:
    kind = type(value)
    if kind is list:
        return [_convert(item) if type(item) in (dict, list) else item for item in value]
    if kind is not dict:
        return value
    # From the inside out, as wrappers contain wrappers.
    document = {name: _convert(item) if type(item) in (dict, list) else item for name, item in value.items()}
    for name in document:
        if name[:1] == "$":
            return _unwrap(document, name)
    return document


def _unwrap(document: dict[str, Any], name: str) -> Any:
    try:
        value = native_value(document, name)
    except BSON_ERRORS as error:
        reason = _shown(str(error))
        raise MalformedDocumentError(f"{_shown(document)} is not valid Extended JSON: {reason}") from error
    if value is document:
        raise InvalidDocumentError(
            f"The field name {_shown(name)} begins with `$`, and no type looks like {_shown(document)}"
        )
    return value


# Native values and BSON -----------------------------------------------------------------------------------


def encode(document: dict[str, Any]) -> bytes:
    """Turn native values into BSON.

    Args:
        document: What `loads` or `decode` returned, or anything else that `bson.encode` takes. A UUID becomes
            binary of subtype 4. A datetime without a time zone is in UTC; microseconds are cut off. What has
            the fields of a DBRef becomes one.

    Returns:
        BSON that is the same after `decode` and `encode`.

    Raises:
        InvalidDocumentError: A name or a value cannot be stored in BSON, or there are more than `MAX_DEPTH`
            levels.
    """
    return _encode(document, MAX_DEPTH)


def decode(body: bytes) -> dict[str, Any]:
    """Turn BSON into native values.

    Args:
        body: BSON. Of equal names the last one counts.

    Returns:
        A document. Dates are aware datetimes in UTC, or `DatetimeMS` outside the years 1 to 9999; UUIDs are
        `Binary`; deprecated types are those of `deprecated_types`; all others are those of `bson`.

    Raises:
        UnreadableDocumentError: It is no valid BSON, such as with a string that is no UTF-8.
    """
    try:
        return _decode(body, DECODING)
    except BSON_ERRORS as error:
        raise _unreadable(error) from error


def decode_exactly(body: bytes) -> dict[str, Any]:
    """Turn BSON into native values that `encode` makes the same BSON of, but for the order of some fields.

    Args:
        body: BSON.

    Returns:
        A document, as from `decode`.

    Raises:
        UnreadableDocumentError: It is no valid BSON.
        InvalidDocumentError: It has a DBRef of too many fields.
        PatchConflictError: It has what native values do not tell: fields of the same name, or options of a regular
            expression that there are none of.
    """
    try:
        document = bson.decode(body, DECODING)
        if dbrefs.NAME in body:
            _with_short_dbrefs(document)
        written = _encode_all(document)
        if written != body and deprecated_types.may_be_in(body):
            document = deprecated_types.decode(body, DECODING)
            written = _encode_all(document)
    except BSON_ERRORS as error:
        raise _unreadable(error) from error
    # What is lost makes a document shorter. `bson` has its own order of a DBRef's fields and of options.
    if len(written) != len(body):
        raise PatchConflictError(
            "others wrote to this document what a change to it would lose, such as two fields of the same name: "
            "replace it as a whole"
        )
    return document


def _encode(document: dict[str, Any], most_levels: int) -> bytes:
    try:
        body = _encode_all(document)
        # `bson` decodes what looks like a DBRef to one, and encodes that with its fields in their order.
        if dbrefs.NAME in body:
            body = _encode_all(_with_short_dbrefs(_decode(body, DECODING)))
        if sum(map(body.count, _OPENING_TYPES)) >= most_levels:
            check_depth(document, most_levels)
    except BSON_ERRORS as error:
        raise InvalidDocumentError(f"BSON cannot hold this document: {_shown(str(error))}") from error
    return body


def _with_short_dbrefs(document: dict[str, Any]) -> dict[str, Any]:
    if not dbrefs.are_short(document):
        raise dbrefs.too_long()
    return document


def _encode_all(document: Any) -> bytes:
    try:
        return bson.encode(document, codec_options=_ENCODING)
    except InvalidDocument:
        # Of all that `bson` does not know, some is known to the other module.
        return deprecated_types.encode(document, _ENCODING)


def _decode(body: bytes, options: CodecOptions[dict[str, Any]]) -> dict[str, Any]:
    return deprecated_types.restored(bson.decode(body, options), body, options, _ENCODING)


# BSON to JSON text ----------------------------------------------------------------------------------------


def to_json(body: bytes, *, canonical: bool = False) -> bytes:
    """Turn BSON into Extended JSON.

    Args:
        body: BSON. Of equal names the last one counts.
        canonical: Whether numbers and dates tell their types too, so that every type of BSON survives.

    Returns:
        JSON text, UTF-8, without white space.

    Raises:
        UnreadableDocumentError: It is no valid BSON.
    """
    write = _canonical_json if canonical else _relaxed_json
    try:
        return write(body) if len(body) <= _LARGE_BYTES else in_pieces(body, write)
    except BSON_ERRORS as error:
        raise _unreadable(error) from error


def _relaxed_json(body: bytes) -> bytes:
    document = _decode(body, _DECODING_FOR_JSON)
    text = orjson.dumps(document, write, _ORJSON_OPTIONS)
    # orjson makes null of numbers that are not finite. Few documents have a null, and fewer such a number.
    if b"null" in text and _MAYBE_NOT_FINITE.search(body):
        text = orjson.dumps(spell_out(document, SPELT_OUT), write, _ORJSON_OPTIONS)
    return text


def _canonical_json(body: bytes) -> bytes:
    document = spell_out(_decode(body, _DECODING_FOR_CANONICAL), CANONICAL)
    return orjson.dumps(document, write, _ORJSON_OPTIONS)


def dumps(value: Any) -> bytes:
    """Turn a native value into relaxed Extended JSON: the text that it has in a document.

    Args:
        value: Any value that a field of a document may have.

    Returns:
        JSON text, UTF-8, without white space.

    Raises:
        InvalidDocumentError: BSON cannot hold this value.
    """
    # One way to write JSON is enough for what is rarely needed and small.
    return to_json(_encode({"": value}, MAX_DEPTH + 1))[len(b'{"":') : -len(b"}")]


# Messages ---------------------------------------------------------------------------------------------


def _unreadable(error: Exception) -> UnreadableDocumentError:
    return UnreadableDocumentError(f"{UnreadableDocumentError.__doc__} {_shown(str(error))}")


def _shown(value: Any) -> str:
    text = value if type(value) is str else repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"
