"""MongoDB's filters, sorts and projections on documents that MongoDB does not have yet.

The operators are those that need no more than the order of values: see `OPERATORS`. What they mean is what
MongoDB's manual says under "Query for Null or Missing Fields" and "Query an Array": a filter on a field that is an
array holds for the array as a whole or for any of its elements.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from bson import Regex

from writebehind import grammar
from writebehind.ordering import MISSING, Key, is_of_type, key, sort_key

Document = dict[str, Any]
#: Whether a document satisfies something.
Predicate = Callable[[Document], bool]
_Test = Callable[[Sequence[Any]], bool]

#: Operators on a field that take a value of any type.
_COMPARING: dict[str, Callable[[Key, Key], bool]] = {
    "$eq": lambda one, other: one == other,
    "$gt": lambda one, other: is_of_type(one, other) and one > other,
    "$gte": lambda one, other: is_of_type(one, other) and one >= other,
    "$lt": lambda one, other: is_of_type(one, other) and one < other,
    "$lte": lambda one, other: is_of_type(one, other) and one <= other,
}
_LOGICAL = {"$and", "$or", "$nor"}
#: Everything that may stand in a filter.
OPERATORS = sorted({*_COMPARING, *_LOGICAL, "$ne", "$in", "$nin", "$exists", "$not"})


def compile_filter(filter_: Mapping[str, Any]) -> Predicate:
    """What tells whether a document, as `codec.decode` returns it, satisfies a filter.

    Raises:
        ValueError: the filter uses something else than `OPERATORS`, or uses them wrongly.
    """
    parts = [_logical(name, value) if name[:1] == "$" else _field(name, value) for name, value in filter_.items()]
    return lambda document: all(part(document) for part in parts)


def compile_sort(sort: Mapping[str, int]) -> Callable[[Document], tuple[Any, ...]]:
    """What tells the place of a document in a sort; places are compared with each other."""
    paths, directions = [name.split(".") for name in sort], list(sort.values())
    return lambda document: sort_key([list(_sorted_by(document, path)) for path in paths], directions)


def project(document: Document, projection: Mapping[str, int]) -> Document:
    """The part of a document that a projection wants: what it lists with 1, or all but what it lists with 0."""
    including = any(value for name, value in projection.items() if name != "_id")
    paths = [name.split(".") for name, value in projection.items() if name != "_id"]
    chosen: Document
    if including or (not paths and projection.get("_id") == 1):
        chosen = _including(document, [*([["_id"]] if projection.get("_id", 1) else []), *paths])
    else:
        chosen = _excluding(document, [*paths, *([["_id"]] if projection.get("_id") == 0 else [])])
    return chosen


# Filters ----------------------------------------------------------------------------------------------


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
    path, test = name.split("."), _condition(value)
    return lambda document: test(list(_compared(document, path)))


def _condition(value: Any) -> _Test:
    """What a field must satisfy: `{"$gt": 5}`, or a value that it must be equal to."""
    if isinstance(value, dict) and any(name[:1] == "$" for name in value):
        tests = [_operator(name, operand) for name, operand in value.items()]
        return lambda values: all(test(values) for test in tests)
    return _operator("$eq", value)


def _operator(name: str, operand: Any) -> _Test:
    match name:
        case "$not":
            if not all(one[:1] == "$" for one in _checked(name, operand, dict)):
                raise ValueError("$not takes an operator such as {$gt: 5}")
            return _negated(_condition(operand))
        case "$ne":
            return _negated(_operator("$eq", operand))
        case "$nin":
            return _negated(_operator("$in", operand))
        case "$in":
            tests = [_operator("$eq", one) for one in _checked(name, operand, list)]
            return lambda values: any(test(values) for test in tests)
        case "$exists":
            wanted = _checked(name, operand, bool)
            return lambda values: any(one is not MISSING for one in values) is wanted
    return _comparison(name, operand)


def _comparison(name: str, operand: Any) -> _Test:
    if name not in _COMPARING:
        raise ValueError(f"{name} is not one of {', '.join(OPERATORS)}")
    if type(operand) is Regex:
        raise ValueError("a regular expression cannot be used here")
    compare, wanted = _COMPARING[name], key(operand)
    return lambda values: any(compare(key(one), wanted) for one in values)


def _checked(name: str, operand: Any, kind: type) -> Any:
    if type(operand) is not kind or operand == {}:
        raise ValueError(f"{name} takes a value of type {kind.__name__}")
    return operand


def _negated(test: _Test) -> _Test:
    return lambda values: not test(values)


# Places in a document ---------------------------------------------------------------------------------


def _reached(value: Any, path: Sequence[str]) -> Iterator[tuple[Any, bool]]:
    """The values at a path, `MISSING` where it ends early; documents in an array are all gone into.

    With each is told whether an array stands for its elements too: not one that is itself named by its index.
    """
    if not path:
        yield value, True
    elif isinstance(value, dict):
        yield from _reached(value[path[0]], path[1:]) if path[0] in value else ((MISSING, False),)
    elif isinstance(value, list):
        if grammar.is_index(path[0]) and int(path[0]) < len(value):
            element = value[int(path[0])]
            yield from _reached(element, path[1:]) if path[1:] else ((element, False),)
        for element in value:
            if isinstance(element, dict):
                yield from _reached(element, path)
    else:
        yield MISSING, False


def _compared(document: Document, path: Sequence[str]) -> Iterator[Any]:
    """What a filter on a path looks at."""
    for value, is_open in _reached(document, path):
        yield value
        if is_open and isinstance(value, list):
            yield from value


def _sorted_by(document: Document, path: Sequence[str]) -> Iterator[Any]:
    """What a sort by a path looks at."""
    for value, is_open in list(_reached(document, path)) or [(MISSING, False)]:
        if is_open and isinstance(value, list):
            yield from value
        else:
            yield value


def _including(value: Any, paths: Sequence[Sequence[str]]) -> Any:
    if isinstance(value, list):
        return [_including(one, paths) for one in value if isinstance(one, dict | list)]
    chosen: Document = {}
    for name, inner in value.items():
        below = [path[1:] for path in paths if path[0] == name]
        if [] in below:
            chosen[name] = inner
        elif below and isinstance(inner, dict | list):
            chosen[name] = _including(inner, below)
    return chosen


def _excluding(value: Any, paths: Sequence[Sequence[str]]) -> Any:
    if isinstance(value, list):
        return [_excluding(one, paths) for one in value]
    if not isinstance(value, dict):
        return value
    chosen: Document = {}
    for name, inner in value.items():
        below = [path[1:] for path in paths if path[0] == name]
        if [] not in below:
            chosen[name] = _excluding(inner, below) if below else inner
    return chosen
