"""MongoDB's filters on documents that MongoDB does not have yet.

The operators are those that need no more than the order of values: see `OPERATORS`. What they mean is what
MongoDB's manual says under "Query for Null or Missing Fields" and "Query an Array": a filter on a field that is an
array holds for the array as a whole or for any of its elements.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from bson import Regex

from writebehind.documents.elements import ARRAY, OBJECT, Element, element, elements
from writebehind.mql.order import MAXIMUM, MINIMUM, NAN, NULL, Key, key, key_of, rank

#: Whether a document, as BSON, satisfies something.
Predicate = Callable[[bytes], bool]
#: The values at a path; `None` stands for one that is missing.
_Values = Sequence[Element | None]
_Test = Callable[[bytes, _Values], bool]

#: Operators on a field that take the order of values.
_COMPARING: dict[str, Callable[[Key, Key], bool]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}
_OR_EQUAL = {"$gte", "$lte"}
#: The end of the order that values of all types are beyond, to an operator.
_BEYOND = {"$gt": MINIMUM, "$gte": MINIMUM, "$lt": MAXIMUM, "$lte": MAXIMUM}
_LOGICAL = {"$and", "$or", "$nor"}
#: Everything that may stand in a filter.
OPERATORS = sorted({*_COMPARING, *_LOGICAL, "$eq", "$ne", "$in", "$nin", "$exists", "$not"})
#: What may stand first in a condition on a value that has no name.
ON_A_FIELD = frozenset(OPERATORS) - _LOGICAL - {"$not"}


def compile_filter(filter_: Mapping[str, Any]) -> Predicate:
    """A function that tells whether a document satisfies a filter.

    Raises:
        ValueError: the filter uses something else than `OPERATORS`, or uses them wrongly.
    """
    parts = [_logical(name, value) if name[:1] == "$" else _field(name, value) for name, value in filter_.items()]
    return lambda document: all(part(document) for part in parts)


def _logical(name: str, value: Any) -> Predicate:
    if name not in _LOGICAL:
        raise ValueError(f"{name} is not one of {', '.join(OPERATORS)}")
    if not isinstance(value, list) or not value or not all(isinstance(one, dict) for one in value):
        raise ValueError(f"{name} takes a list of filters")
    parts = [compile_filter(one) for one in value]
    if name == "$and":
        return lambda document: all(part(document) for part in parts)
    wanted = name == "$or"
    return lambda document: any(part(document) for part in parts) is wanted


def _field(name: str, value: Any) -> Predicate:
    path, test = name.encode().split(b"."), _condition(value)

    def satisfied(document: bytes) -> bool:
        values: list[Element | None] = []
        _reach(document, 0, path, values)
        return test(document, values)

    return satisfied


def _condition(value: Any) -> _Test:
    """A condition on a field: `{"$gt": 5}`, or a value that it must be equal to."""
    if isinstance(value, dict) and any(name[:1] == "$" for name in value):
        tests = [_operator(name, operand) for name, operand in value.items()]
        return lambda document, values: all(test(document, values) for test in tests)
    return _one_of([key_of(_checked_for_pattern(value))])


def _operator(name: str, operand: Any) -> _Test:
    match name:
        case "$not":
            if not all(one[:1] == "$" for one in _checked(name, operand, dict)):
                raise ValueError("$not takes an operator such as {$gt: 5}")
            return _negated(_condition(operand))
        case "$ne":
            return _negated(_operator("$eq", _checked_for_pattern(operand)))
        case "$nin":
            return _negated(_operator("$in", operand))
        case "$in":
            return _one_of([key_of(_checked_for_pattern(one)) for one in _checked(name, operand, list)])
        case "$exists":
            wanted = _checked(name, operand, bool)
            return lambda _, values: any(one is not None for one in values) is wanted
    return _comparison(name, operand)


def has_key(value: object) -> dict[str, object]:
    """The condition on a field of a unique index that says: this value is one of the keys of a document there.

    For MongoDB null equals what is missing, of which a sparse index has no key.
    """
    return {"$eq": None, "$exists": True} if value is None else {"$eq": value}


def _comparison(name: str, operand: Any) -> _Test:
    if name == "$eq":
        return _one_of([key_of(operand)])
    if name not in _COMPARING:
        raise ValueError(f"{name} is not one of {', '.join(OPERATORS)}")
    compare, wanted = _COMPARING[name], key_of(_checked_for_pattern(operand))
    if wanted == NAN:  # which is neither less nor greater than any number
        return _one_of([wanted]) if name in _OR_EQUAL else lambda *_: False
    is_beyond = _BEYOND[name] == wanted

    def holds(document: bytes, one: Element | None) -> bool:
        if one is None:
            return is_beyond or (wanted == NULL and name in _OR_EQUAL)
        if rank(one[0]) != wanted[0]:
            return is_beyond
        found = key(document, one)
        return found != NAN and compare(found, wanted)

    return lambda document, values: any(holds(document, one) for one in values)


def _one_of(keys: Iterable[Key]) -> _Test:
    wanted = frozenset(keys)
    ranks, may_be_missing = {one[0] for one in wanted}, NULL in wanted

    def holds(document: bytes, one: Element | None) -> bool:
        if one is None:
            return may_be_missing
        return rank(one[0]) in ranks and key(document, one) in wanted

    return lambda document, values: any(holds(document, one) for one in values)


def _checked_for_pattern(operand: Any) -> Any:
    if type(operand) is Regex:
        raise ValueError("a regular expression is compared as a value by $eq alone")
    return operand


def _checked(name: str, operand: Any, kind: type) -> Any:
    if type(operand) is not kind or operand == {}:
        raise ValueError(f"{name} takes a value of type {kind.__name__}")
    return operand


def _negated(test: _Test) -> _Test:
    return lambda document, values: not test(document, values)


# Places in a document ---------------------------------------------------------------------------------


def _reach(raw: bytes, at: int, path: Sequence[bytes], found: list[Element | None]) -> None:
    """Find the values at a path in the document at a position: also the elements of an array at its end.

    Documents in an array are all gone into, and so is the element that the path names by its index, though not
    into what that one holds where the path ends with it.
    """
    last = len(path)
    for depth, name in enumerate(path, 1):
        one = element(raw, name, at)
        if one is None:
            found.append(None)
            return
        kind, at, _ = one
        if depth == last:
            found.append(one)
            if kind == ARRAY:
                found += [inner for _, inner in elements(raw, at)]
        elif kind == ARRAY:
            _reach_into(raw, at, path[depth:], found)
            return
        elif kind != OBJECT:
            found.append(None)
            return


def _reach_into(raw: bytes, at: int, path: Sequence[bytes], found: list[Element | None]) -> None:
    """The same in an array."""
    rest = path[1:]
    for index, one in elements(raw, at):
        kind, start, _ = one
        if kind == OBJECT:
            _reach(raw, start, path, found)
        if index != path[0]:
            continue
        if not rest:
            found.append(one)
        elif kind == OBJECT:
            _reach(raw, start, rest, found)
        elif kind == ARRAY:
            _reach_into(raw, start, rest, found)
