"""The grammars of outside text: one strict function each.

Python's own parsers take more than a grammar says: `int`, `float` and `UUID` take underscores, white space, signs
and the digits of every script, `fromisoformat` takes parts of a date, `b64decode` drops what it does not know. A
text that does not say exactly what is meant is refused here: nothing is cut off or made up.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from datetime import UTC, datetime
from math import isinf
from typing import Final
from uuid import UUID

from bson.decimal128 import Decimal128
from bson.objectid import ObjectId

INT32_MIN, INT32_MAX = -(1 << 31), (1 << 31) - 1
INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1
UINT32_MAX = (1 << 32) - 1

# `\d` would take the digits of every script.
_INTEGER: Final = re.compile(r"0|-?[1-9][0-9]{0,18}")
_NUMBER: Final = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_SPECIAL_DECIMAL: Final = re.compile(r"[-+]?(?:inf|infinity|nan)", re.IGNORECASE | re.ASCII)
_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,8}")
_HEX24: Final = re.compile(r"[0-9a-fA-F]{24}")
_HEX_BYTE: Final = re.compile(r"[0-9a-fA-F]{1,2}")
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_DATE: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9])"
    r"(?:\.([0-9]{1,3})0{0,9})?"
    r"(?:Z|([-+](?:[01][0-9]|2[0-3]))(?::?([0-5][0-9]))?)"
)
_SPECIAL_DOUBLES: Final = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


def integer(text: str, least: int = INT64_MIN, most: int = INT64_MAX) -> int:
    """Read a whole number: decimal digits without leading zeros, with `-` before them where it is negative.

    Args:
        text: the number, such as `-12`.
        least: the least number that may be meant, of 64 bits at most.
        most: the greatest one.

    Raises:
        ValueError: it is none, or out of bounds.
    """
    if not _INTEGER.fullmatch(text):
        raise ValueError("this is no whole number in decimal digits")
    number = int(text)
    if not least <= number <= most:
        raise ValueError(f"this is no number from {least} to {most}")
    return number


def is_index(text: str) -> bool:
    """Whether a part of a path can name a place in an array: a number of up to 9 digits without leading zeros."""
    return _INDEX.fullmatch(text) is not None


def double(text: str) -> float:
    """Read a number that a double can be nearest to, `NaN`, `Infinity` or `-Infinity`.

    Raises:
        ValueError: it is none, or beyond the range of a double.
    """
    if text in _SPECIAL_DOUBLES:
        return _SPECIAL_DOUBLES[text]
    if not _NUMBER.fullmatch(text):
        raise ValueError("this is no number in decimal digits")
    number = float(text)
    if isinf(number):
        raise ValueError("this is beyond the range of a double")
    return number


def decimal(text: str) -> Decimal128:
    """Read a number of up to 34 digits exactly, or an infinity, or not a number.

    Raises:
        ValueError: it is none, or Decimal128 would round it.
    """
    if not (_NUMBER.fullmatch(text) or _SPECIAL_DECIMAL.fullmatch(text)):
        raise ValueError("this is no number in decimal digits")
    try:
        return Decimal128(text)
    except ArithmeticError as error:
        raise ValueError("Decimal128 cannot hold this number exactly") from error


def date(text: str) -> datetime:
    """Read a point in time of RFC 3339, such as `2026-01-31T12:00:00.250Z`, of the years 1 to 9999.

    The zone may also be written as ISO 8601 has it, `+0130` or `+01`. There is nothing finer than a millisecond.

    Returns:
        An aware datetime in UTC.

    Raises:
        ValueError: it is none, there is no such day, or it is not of a whole millisecond.
    """
    found = _DATE.fullmatch(text)
    if not found:
        raise ValueError("this is no date and time such as 2026-01-31T12:00:00.250Z, of whole milliseconds")
    seconds, fraction, hours, minutes = found.groups()
    whole = f"{seconds}.{fraction or '0':0<3}{hours or '+00'}:{minutes or '00'}"
    try:
        return datetime.fromisoformat(whole).astimezone(UTC)
    except OverflowError as error:
        raise ValueError("in UTC this is no date of the years 1 to 9999") from error


def uuid(text: str) -> UUID:
    """Read a UUID: 8-4-4-4-12 hexadecimal digits.

    Raises:
        ValueError: it is none.
    """
    if not _UUID.fullmatch(text):
        raise ValueError("this is no UUID: 8-4-4-4-12 hexadecimal digits")
    return UUID(text)


def object_id(text: str) -> ObjectId:
    """Read an ObjectId: 24 hexadecimal digits.

    Raises:
        ValueError: it is none.
    """
    if not _HEX24.fullmatch(text):
        raise ValueError("this is no ObjectId: 24 hexadecimal digits")
    return ObjectId(text)


def base64(text: str) -> bytes:
    """Read base64 of RFC 4648, section 4: with its padding, and without a bit that means nothing.

    Raises:
        ValueError: it is none.
    """
    data = b64decode(text, validate=True)
    if b64encode(data).decode() != text:
        raise ValueError("this is no base64 that anybody would write")
    return data


def hex_byte(text: str) -> int:
    """Read one or two hexadecimal digits.

    Raises:
        ValueError: it is something else.
    """
    if not _HEX_BYTE.fullmatch(text):
        raise ValueError("this is no byte of one or two hexadecimal digits")
    return int(text, 16)
