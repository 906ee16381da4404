"""Operators on arrays: `$push`, `$addToSet` and `$pull`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from math import isfinite
from typing import Any, Final

from bson import Decimal128, Regex

from writebehind.documents import codec
from writebehind.documents.elements import ARRAY, OBJECT, Element, document, element, elements, field
from writebehind.documents.sums import is_number
from writebehind.errors import InvalidPatchError, PatchConflictError
from writebehind.mql.filters import ON_A_FIELD, compile_filter
from writebehind.mql.order import NULL, Key, key, key_of
from writebehind.mql.updates.paths import Parts, dotted, shown
from writebehind.mql.updates.steps import Step, changing, replacing

EACH: Final = "$each"
#: What may stand beside `$each` in `$push`.
CLAUSES: Final = (EACH, "$position", "$slice", "$sort")

Array = list[Any]
#: Whether an element of an array, as BSON, is one of those that are meant.
_Test = Callable[[bytes, Element], bool]


def push(path: Parts, operand: Any) -> Step:
    """`$push`: add elements to an array, sort it, and keep so many of it.

    Raises:
        InvalidPatchError: a clause has a value that it does not take, or there is no such clause.
    """
    given = operand if isinstance(operand, dict) else {}
    has_clauses = any(name in given for name in CLAUSES)
    added = _Push.read(given, dotted(path)) if has_clauses else _Push([operand])
    return replacing(path, lambda old: added.to(_array("$push", old, path)), lambda: added.to([]))


def add_to_set(path: Parts, operand: Any) -> Step:
    """`$addToSet`: add those elements to an array that equal none which is there.

    Raises:
        InvalidPatchError: `$each` has no array, or something stands beside it.
    """
    values = [operand]
    if isinstance(operand, dict) and EACH in operand:
        if len(operand) > 1:
            raise InvalidPatchError(f"$addToSet: {dotted(path)} takes nothing beside $each")
        values = _list("$addToSet", operand[EACH], dotted(path))
    wanted: dict[Key, Any] = {}
    for place, value in zip(_keys(values), values, strict=True):
        wanted.setdefault(place, value)

    def change(old: Any) -> Array:
        array = _array("$addToSet", old, path)
        there = set(_keys(array))
        return [*array, *(value for place, value in wanted.items() if place not in there)]

    return replacing(path, change, lambda: list(wanted.values()))


def pull(path: Parts, condition: Any) -> Step:
    """`$pull`: take those elements out of an array that equal a value, or satisfy a condition.

    Raises:
        InvalidPatchError: the condition has an operator that is not offered.
    """
    try:
        test = _test(condition)
    except ValueError as error:
        raise InvalidPatchError(f"$pull: {dotted(path)}: {shown(error)}") from error

    def change(old: Any) -> Array:
        array = _array("$pull", old, path)
        raw, inner = _inner(array)
        return [value for value, one in zip(array, inner, strict=True) if not test(raw, one)]

    return changing(path, change)


def _test(condition: Any) -> _Test:
    """The test that a condition of `$pull` makes: of the fields of documents, or of elements themselves."""
    if isinstance(condition, Regex):
        raise ValueError("a regular expression is not offered")  # noqa: TRY004 - as of `compile_filter`
    if not isinstance(condition, dict):
        wanted = key_of(condition)
        return lambda raw, one: key(raw, one) == wanted
    if next(iter(condition), "") in ON_A_FIELD:
        of_element = compile_filter({"": condition})
        return lambda raw, one: of_element(document([field(one[0], b"", raw[one[1] : one[2]])]))
    of_fields = compile_filter(condition)
    return lambda raw, one: one[0] == OBJECT and of_fields(raw[one[1] : one[2]])


@dataclass(frozen=True, slots=True)
class _Push:
    """One `$push`, to any array.

    Attributes:
        values: that it adds.
        position: where, from the end if it is negative; `None` at the end.
        most: elements to keep, of the last ones if it is negative; `None` for all.
        sort: paths with 1 or -1; the path of none is the element itself.
    """

    values: Array
    position: int | None = None
    most: int | None = None
    sort: Sequence[tuple[bytes, int]] = ()

    @classmethod
    def read(cls, clauses: dict[str, Any], path: str) -> _Push:
        """Read the clauses. Raises as `push`."""
        if unknown := [name for name in clauses if name not in CLAUSES]:
            raise InvalidPatchError(f"$push: {path}: {shown(unknown[0])} is not one of {', '.join(CLAUSES)}")
        if EACH not in clauses:
            raise InvalidPatchError(f"$push: {path}: {next(iter(clauses))} needs $each")
        return cls(
            _list("$push", clauses[EACH], path),
            _whole(clauses, "$position", path),
            _whole(clauses, "$slice", path),
            _sort(clauses["$sort"], path) if "$sort" in clauses else (),
        )

    def to(self, array: Array) -> Array:
        """The array with all that is to be added."""
        at = len(array) if self.position is None else self.position
        if at < 0:
            at = max(len(array) + at, 0)
        array = [*array[:at], *self.values, *array[at:]]
        if self.sort:
            array = _sorted(array, self.sort)
        if self.most is None:
            return array
        return array[: self.most] if self.most >= 0 else array[self.most :]


def _sorted(array: Array, sort: Sequence[tuple[bytes, int]]) -> Array:
    """An array in an order; those that are equal in it stay as they were."""
    raw, inner = _inner(array)
    order = list(range(len(array)))
    for path, way in reversed(sort):
        keys = [key(raw, one) if not path else _key_at(raw, one, path) for one in inner]
        order.sort(key=keys.__getitem__, reverse=way < 0)
    return [array[at] for at in order]


def _key_at(raw: bytes, one: Element, path: bytes) -> Key:
    """The place of an element by what it has at a path, arrays as a whole; null where it has nothing there."""
    kind, start, _ = one
    found = _at(raw, start, path) if kind == OBJECT else None
    return NULL if found is None else key(raw, found)


def _at(raw: bytes, at: int, path: bytes) -> Element | None:
    """The value at a path, which may as well be the name of a field that has dots."""
    found = element(raw, path, at)
    if found is not None or b"." not in path:
        return found
    first, rest = path.split(b".", 1)
    inner = element(raw, first, at)
    return _at(raw, inner[1], rest) if inner is not None and inner[0] in {OBJECT, ARRAY} else None


def _sort(given: Any, path: str) -> Sequence[tuple[bytes, int]]:
    if isinstance(given, dict) and given:
        parts = [(name.encode(), _direction(way, path)) for name, way in given.items()]
        if not all(all(name.split(b".")) for name, _ in parts):
            raise InvalidPatchError(f"$push: {path}: $sort has an empty name")
        return parts
    return [(b"", _direction(given, path))]


def _direction(given: Any, path: str) -> int:
    number = _number(given)
    if number not in {1, -1}:
        raise InvalidPatchError(f"$push: {path}: $sort takes 1 or -1, or an object of these by field")
    return int(number)


def _whole(clauses: dict[str, Any], name: str, path: str) -> int | None:
    if name not in clauses:
        return None
    number = _number(clauses[name])
    if number is None or int(number) != number:
        raise InvalidPatchError(f"$push: {path}: {name} takes a whole number")
    return int(number)


def _number(given: Any) -> Any:
    """A number as Python counts; `None` for what is none, or not finite."""
    number = given.to_decimal() if isinstance(given, Decimal128) else given
    is_finite = is_number(given) and (number.is_finite() if isinstance(number, Decimal) else isfinite(number))
    return number if is_finite else None


def _list(name: str, given: Any, path: str) -> Array:
    if not isinstance(given, list):
        raise InvalidPatchError(f"{name}: {path}: $each takes an array")
    return given


def _array(name: str, value: Any, path: Parts) -> Array:
    if not isinstance(value, list):
        raise PatchConflictError(f"{name}: {dotted(path)} is not an array")
    return value


def _keys(array: Array) -> Iterable[Key]:
    raw, inner = _inner(array)
    return [key(raw, one) for one in inner]


def _inner(array: Array) -> tuple[bytes, list[Element]]:
    """The elements of an array, as they stand in BSON."""
    raw = codec.encode({"": array})
    [(_, whole)] = elements(raw)
    return raw, [one for _, one in elements(raw, whole[1])]
