"""Merge patches of RFC 7396, on native BSON values."""

from __future__ import annotations

from copy import deepcopy

import pytest
from bson import DBRef, ObjectId
from hypothesis import given
from hypothesis import strategies as st

from tests.bson_strategies import documents, values
from tests.unit.documents.patching import MORE, TYPED, json_values, small_documents
from writebehind.documents.codec import encode
from writebehind.documents.patches import merge_patch
from writebehind.errors import InvalidDocumentError, InvalidPatchError, RequestError


@pytest.mark.parametrize(
    ("document", "patch", "expected"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch_of_the_rfc(document, patch, expected):
    """The examples of RFC 7396, appendix A, whose patch is an object."""
    assert expected == merge_patch(patch)(document)


@pytest.mark.parametrize("patch", [["c"], None, "bar", 5, True, [], DBRef("c", 1), ObjectId()])
def test_merge_patch_that_is_no_object(patch):
    """A patch that would replace the document by something else is refused; so are the RFC's examples of it."""
    with pytest.raises(InvalidPatchError):
        merge_patch(patch)


def test_merge_patch_of_the_rfc_text():
    """The example of RFC 7396, section 3."""
    document = {
        "title": "Goodbye!",
        "author": {"givenName": "John", "familyName": "Doe"},
        "tags": ["example", "sample"],
        "content": "This will be unchanged",
    }
    patch = {
        "title": "Hello!",
        "phoneNumber": "+01-123-456-7890",
        "author": {"familyName": None},
        "tags": ["example"],
    }
    assert {
        "title": "Hello!",
        "author": {"givenName": "John"},
        "tags": ["example"],
        "content": "This will be unchanged",
        "phoneNumber": "+01-123-456-7890",
    } == merge_patch(patch)(document)


@pytest.mark.parametrize("name", TYPED)
def test_merge_patch_replaces_typed_values_whole(name):
    """A value that is an object only in JSON is replaced, not merged into."""
    assert {name: {"$": 1}} == merge_patch({name: {"$": 1}})({name: deepcopy(TYPED[name])})


@MORE
@given(small_documents, st.dictionaries(st.sampled_from(["a", "b", "0"]), json_values | values, max_size=4))
def test_merge_patch_applies_twice(document, patch):
    """A merge patch is the same after it was applied, and applying it again changes nothing more."""
    before, change = deepcopy(patch), merge_patch(patch)
    once = change(deepcopy(document))
    first = encode_or_none(once)
    assert repr(before) == repr(patch)
    assert repr(once) == repr(change(deepcopy(document)))
    assert first == encode_or_none(change(once))


def encode_or_none(document: dict) -> bytes | None:
    """BSON, which unlike Python tells 1 from 1.0 and finds NaN equal to itself."""
    try:
        return encode(document)
    except InvalidDocumentError:
        return None


def test_merge_patch_lends_nothing():
    """What is done to a patched document does not reach the patch."""
    change = merge_patch({"a": {"b": [[]]}})
    change({})["a"]["b"][0].append(1)
    assert {"a": {"b": [[]]}} == change({})


@MORE
@given(small_documents | documents, json_values | values)
def test_only_refusals_of_merge_patches(document, patch):
    """Whatever is sent as a merge patch gives a document or a refusal, and nothing else."""
    try:
        assert isinstance(merge_patch(patch)(document), dict)
    except RequestError:
        return
