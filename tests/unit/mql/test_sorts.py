"""Documents are sorted by the keys that mongod generates for them: `BtreeKeyGenerator`, `SortKeyGenerator`."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from tests.bson_order import UNDEFINED, VALUES, with_fields
from writebehind.mql.sorts import Place, compile_sort


def place_of(sort: dict[str, int], *parts: Any) -> Place:
    """The place of a document in whose fields nothing but these values stand."""
    names = [f"f{n}" for n in range(len(parts))]
    alike = compile_sort(dict(zip(names, sort.values(), strict=True)))
    # An array would be gone into: one within an array is not.
    fields = {name: [one] if isinstance(one, list) else one for name, one in zip(names, parts, strict=True)}
    return alike(with_fields(**fields))


@pytest.mark.parametrize(
    ("path", "value", "least", "greatest"),
    [
        # Each element of an array counts, and the array itself does not.
        ("a", [2, 1, 3], 1, 3),
        ("a", [[2], 1], 1, [2]),
        ("a", [[2, 1]], [2, 1], [2, 1]),
        ("a", [], UNDEFINED, UNDEFINED),
        ("a", [[]], [], []),
        ("a", [None, 1], None, 1),
        # Documents in an array are gone into; what else there is has no fields.
        ("a.c", [{"c": 2}, {"c": 1}], 1, 2),
        ("a.c", [1, {"c": 2}], None, 2),
        ("a.c", [{"c": 2}, {}], None, 2),
        ("a.c", [{"c": [3, 2]}, {"c": 1}], 1, 3),
        ("a.c", [{"c": []}, {"c": 1}], UNDEFINED, 1),
        ("a.c", [1, 2], None, None),
        ("a.c", [[{"c": 1}]], None, None),
        ("a.c", [[{"c": 1}], {"c": 2}], None, 2),
        ("a.c", [], None, None),
        ("a.c", {"c": [1, {"d": 2}]}, 1, {"d": 2}),
        ("a.c", {}, None, None),
        ("a.c", 5, None, None),
        ("a.c.d", [1, 2, {"c": {"d": [3, 4]}}], None, 4),
        ("a.c.d", {"c": [1, {"d": 2}]}, None, 2),
        ("a.c.d", [{"c": []}], None, None),
        # An index names one element, unless a document in the array has a field of that name.
        ("a.0", [1, 2], 1, 1),
        ("a.0", [[1, 2]], [1, 2], [1, 2]),
        ("a.0", [[]], UNDEFINED, UNDEFINED),
        ("a.0", {"0": 1}, 1, 1),
        ("a.0.0", [[1]], 1, 1),
        ("a.0.0", [[]], None, None),
        ("a.0.c", [{"c": 1}, {"c": 2}], 1, 1),
        ("a.0.c", [{"c": [1, 2]}], 1, 2),
        ("a.0.c", [[{"c": [1]}, {"c": 2}]], 1, 2),
        ("a.c.1", [{"c": [1, 2]}, {"c": [1, 0]}], 0, 2),
        ("a.c.1", [{"c": [[1, 5]]}], None, None),
        ("a.2", [{"2": 5}], 5, 5),
        ("a.2", [[1, 2, 5], {"2": 6}], None, 6),
        ("a.2", [[1], [2], [0, 1]], [0, 1], [0, 1]),
    ],
)
def test_one_field(path, value, least, greatest):
    """Of the keys of a document the least one counts, or upside down the greatest."""
    document = with_fields(a=value)
    assert place_of({path: 1}, least) == compile_sort({path: 1})(document)
    assert place_of({path: -1}, greatest) == compile_sort({path: -1})(document)
    # The same beside another field, by a way that is not as short.
    assert place_of({path: 1}, least) == compile_sort({path: 1, "b": 1})(document)[:1]
    assert place_of({path: -1}, greatest) == compile_sort({path: -1, "b": 1})(document)[:1]


@pytest.mark.parametrize(
    ("sort", "fields", "parts"),
    [
        ({"a": 1, "b": -1}, {"a": [2, 1], "b": 3}, [1, 3]),
        # The fields of one element stay together.
        ({"a.c": 1, "a.d": 1}, {"a": [{"c": 1, "d": 9}, {"c": 0, "d": 5}, {"c": 1, "d": 0}]}, [0, 5]),
        ({"a.c": 1, "a.d": -1}, {"a": [{"c": 1, "d": 9}, {"c": 0, "d": 5}, {"c": 0, "d": 7}]}, [0, 7]),
        ({"a.c": -1, "a.d": 1}, {"a": [{"c": 1, "d": 9}, {"c": 0, "d": 5}, {"c": 1, "d": 0}]}, [1, 0]),
        ({"a.c": 1, "a.d": 1}, {"a": [1, {"c": [4, 3], "d": 5}]}, [None, None]),
        ({"a.c": -1, "a.d": -1}, {"a": [1, {"c": [4, 3], "d": 5}]}, [4, 5]),
        ({"a": 1, "a.c": 1}, {"a": []}, [UNDEFINED, None]),
        ({"a": 1, "a.c": 1}, {"a": [{"c": []}]}, [{"c": []}, UNDEFINED]),
        ({"a": -1, "a.c": -1}, {"a": [1, {"c": [2, 3, 4]}]}, [{"c": [2, 3, 4]}, 4]),
        ({"a": 1, "a.0": 1}, {"a": [2, 1]}, [1, 2]),
        ({"a": 1, "b": 1}, {}, [None, None]),
        # MongoDB refuses these; here each array counts by itself.
        ({"a": 1, "b": -1}, {"a": [2, 1], "b": [3, 4]}, [1, 4]),
        ({"a": 1, "b": 1}, {"a": [], "b": [3, 4]}, [UNDEFINED, 3]),
        ({"a.0": 1}, {"a": [1, {"0": 2}]}, [1]),
    ],
)
def test_several_fields(sort, fields, parts):
    """Of all keys the one counts that comes first by all the fields, each in its direction."""
    assert place_of(sort, *parts) == compile_sort(sort)(with_fields(**fields))


@pytest.mark.parametrize("direction", [1, -1])
def test_values_of_all_types(direction):
    """Values sort in MongoDB's order; those that are equal have one place, and a missing field that of null."""
    place = compile_sort({"a": direction})
    places = [(at * direction, place(with_fields(a=one))) for kind, at, one in VALUES if kind != "array"]
    for (at, one), (other, two) in product(places, repeat=2):
        assert (at < other, at == other) == (one < two, one == two)
    assert place(with_fields()) == place(with_fields(a=None))
