"""Values are in MongoDB's order, and equal where MongoDB takes them for equal."""

from __future__ import annotations

from itertools import product

import bson
import pytest
from hypothesis import given, settings

from tests.bson_order import ROWS, VALUES, Raw, with_fields
from tests.bson_strategies import documents
from tests.tiers import examples
from writebehind.documents.elements import document, element, elements, field
from writebehind.mql.order import Key, key


def key_of(value: object) -> Key:
    raw = with_fields(a=value)
    [(_, one)] = elements(raw)
    return key(raw, one)


KEYS = [[key_of(one) for one in row] for _, row in ROWS]


def test_the_order_of_all_types():
    """Each value is greater than all that come before it, whatever their types, and less than none."""
    for (at, row), (other, others) in product(enumerate(KEYS), repeat=2):
        for one, two in product(row, others):
            assert (at < other, at == other, at > other) == (one < two, one == two, one > two)


def test_equal_values_are_one_key():
    """Values that are equal are found in a set by each other."""
    for row in KEYS:
        assert 1 == len(set(row))
    assert len(KEYS) == len({one for row in KEYS for one in row})


@pytest.mark.parametrize("holder", [lambda one: {"b": one}, lambda one: [one]])
def test_the_order_within_documents_and_arrays(holder):
    """It is the same within them."""
    places = {key_of(holder(one)): at for _, at, one in VALUES if not isinstance(one, Raw)}
    assert list(places.values()) == [places[one] for one in sorted(places)]


@settings(max_examples=examples(50))
@given(documents)
def test_the_elements_of_a_document(native):
    """Every element is found where it stands, by walking and by its name, and makes up the same document again."""
    raw = bson.encode(native)
    found = dict(elements(raw))
    assert list(native) == [name.decode() for name in found]
    assert found == {name: element(raw, name) for name in found}
    assert raw == document(field(kind, name, raw[start:end]) for name, (kind, start, end) in found.items())
    assert element(raw, b"\xff") is None


def test_what_is_no_bson():
    """An element of a type that there is not is an error."""
    raw = bson.encode({"a": 1}).replace(b"\x10", b"\x20")
    with pytest.raises(ValueError, match="0x20"):
        list(elements(raw))
    with pytest.raises(ValueError, match="0x20"):
        element(raw, b"b")
