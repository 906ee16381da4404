"""Sums of BSON numbers, as MongoDB's `$inc` makes them."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from typing import Any, Final

from bson import Decimal128, Int64
from bson.decimal128 import create_decimal128_context

from writebehind.errors import InvalidDocumentError

_INT32, _INT64 = 32, 64
#: Significant digits that MongoDB takes of a double that becomes a Decimal128, neither more nor less.
_DOUBLE_DIGITS: Final = 15


def is_number(value: Any) -> bool:
    """Whether a value is of one of the four types of numbers."""
    return isinstance(value, int | float | Decimal128) and not isinstance(value, bool)


def fits_int64(number: int) -> bool:
    """Whether BSON can hold an integer."""
    return _fits(number, _INT64)


def add(one: Any, other: Any, path: str) -> Any:
    """The sum of two numbers, of the wider type of the two; an int32 grows to an int64.

    Args:
        one: a number, for which `is_number` holds.
        other: the same.
        path: where the sum is to stand, for the error.

    Raises:
        InvalidDocumentError: it is an integer that does not fit 64 bits.
    """
    if isinstance(one, Decimal128) or isinstance(other, Decimal128):
        with localcontext(create_decimal128_context()) as context:
            return Decimal128(context.add(_decimal(one), _decimal(other)))
    if isinstance(one, float) or isinstance(other, float):
        return one + other
    total = one + other
    if not fits_int64(total):
        raise InvalidDocumentError(f"{path} would not fit 64 bits")
    return total if all(_is_int32(number) for number in (one, other, total)) else Int64(total)


def _is_int32(number: int) -> bool:
    return not isinstance(number, Int64) and _fits(number, _INT32)


def _fits(number: int, bits: int) -> bool:
    return -(1 << bits - 1) <= number < 1 << bits - 1  # not a range, which counts an Int64 up to find it


def _decimal(number: Any) -> Decimal:
    if isinstance(number, Decimal128):
        return number.to_decimal()
    if not isinstance(number, float):
        return Decimal(int(number))
    exact = Decimal(number)
    if not exact or not exact.is_finite():
        return exact
    rounded = _rounded(exact, exact.adjusted())
    return rounded if rounded.adjusted() == exact.adjusted() else _rounded(exact, rounded.adjusted())


def _rounded(number: Decimal, leading: int) -> Decimal:
    """A number whose first digit stands at this power of ten, with `_DOUBLE_DIGITS`."""
    return number.quantize(Decimal((0, (1,), leading - _DOUBLE_DIGITS + 1)), ROUND_HALF_EVEN)
