"""Objects and arrays in JSON text are counted, and their levels bounded."""

from __future__ import annotations

import json

import bson
import pytest
from bson import DatetimeMS
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.documents.conftest import nested
from writebehind.documents.codec import (
    encode,
    loads,
)
from writebehind.documents.nesting import MAX_DEPTH, holds_more
from writebehind.errors import InvalidDocumentError


@pytest.mark.parametrize("levels", [1, MAX_DEPTH - 1])
def test_wrappers_do_not_count_as_levels(levels):
    """A document of as many levels as are allowed may have wrapped values in its last one."""
    data = b'{"a":' * levels + b'{"b":{"$date":{"$numberLong":"5"}}}' + b"}" * levels

    assert encode(loads(data)) == bson.encode(nested(levels, {"b": DatetimeMS(5)}))


def test_an_empty_object_or_array_is_a_level():
    """The limit holds for levels that have nothing in them."""
    assert loads(b'{"a":' * 99 + b"[]" + b"}" * 99) == nested(99, [])
    with pytest.raises(InvalidDocumentError):
        loads(b'{"a":' * 100 + b"[]" + b"}" * 100)
    with pytest.raises(InvalidDocumentError):
        encode(nested(100, []))


@given(st.recursive(st.text(alphabet='[]{}"\\ a\n'), lambda inner: st.lists(inner, max_size=4), max_leaves=30))
def test_objects_and_arrays_are_counted_outside_of_strings(value):
    """Objects and arrays in JSON text are counted without reading it, whatever its strings have in them."""

    def count(one: object) -> int:
        return 1 + sum(map(count, one)) if isinstance(one, list) else 0

    text = json.dumps({"a": value}).encode()
    number = 1 + count(value)
    assert (True, False) == (holds_more(text, number - 1), holds_more(text, number))


def test_quotes_and_brackets_are_counted_a_slice_at_a_time():
    """A text of quotes and brackets alone makes no millions of objects, and slices change no count."""
    text = b'["[[[",' * 40_000 + b"{}"
    brackets = 40_000 + 1
    assert (True, False) == (holds_more(text, brackets - 1), holds_more(text, brackets))
