"""Entries: the value in Redis and its parts give each other, and Lua finds the header where it looks for it."""

from __future__ import annotations

import re
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from writebehind.documents.entry import ABSENT, BODY_AT, DELETED, KIND_AT, VERSION_DIGITS, Entry, Kind
from writebehind.documents.raw_bson import etag
from writebehind.redis.scripts import script

versions = st.integers(0, 10**16 - 1)
bodies = st.binary(max_size=100)
documents = st.builds(Entry.loaded, bodies, versions)
others = st.builds(Entry, versions, st.sampled_from([Kind.DELETED, Kind.ABSENT]))


@given(documents | others)
def test_value_and_back(entry):
    """An entry parsed from its value is the same entry."""
    assert entry == Entry.parse(entry.value)


@given(documents)
def test_positions_in_a_document(entry):
    """Version, kind, ETag and body stand at fixed positions."""
    value = entry.value
    assert entry.version == int(value[:VERSION_DIGITS])
    assert b"D" == value[KIND_AT : KIND_AT + 1]
    assert entry.etag.encode() == value[KIND_AT + 1 : BODY_AT]
    assert entry.body == value[BODY_AT:]


@given(others)
def test_length_without_a_document(entry):
    """An entry without a document is the version and one letter."""
    assert f"{entry.version:016d}{entry.kind}".encode() == entry.value


@given(bodies, versions)
def test_loaded(body, version):
    """A loaded entry is a document with the ETag of its body."""
    entry = Entry.loaded(body, version)
    assert (version, Kind.DOCUMENT, etag(body), body) == (entry.version, entry.kind, entry.etag, entry.body)


@given(documents, others, others)
def test_the_same_content(entry, nothing, other):
    """A document is compared by version and ETag, also without its body; no document is like no other."""
    assert entry.same_content(Entry.parse(entry.value[:BODY_AT]))
    assert not entry.same_content(replace(entry, version=entry.version + 1))
    assert not entry.same_content(replace(entry, etag="0" * 32))
    assert not entry.same_content(nothing)
    assert not nothing.same_content(entry)
    assert nothing.same_content(other)


@given(st.binary(min_size=32, max_size=32).filter(lambda one: not one.isalnum()))
def test_what_is_no_etag(given):
    """What other hands have put in its place comes into no header: such an entry is one that nobody can read."""
    shown = Entry.shown(b"0000000000000005D" + given + b"\x05\0\0\0\0")
    assert (0, 32, True) == (shown.version, len(shown.etag), shown.etag.isalnum())


def test_constants():
    """The entries of no document have no version, and do not exist."""
    assert (b"0" * 16 + b"N", b"0" * 16 + b"X") == (ABSENT.value, DELETED.value)
    assert (False, False, True) == (ABSENT.exists, DELETED.exists, Entry.loaded(b"", 0).exists)


def test_what_redis_takes():
    """The version followed by the payload is the value, so Lua may put its own version in front."""
    entry = Entry.loaded(b"body", 7)
    assert entry.value == entry.version_digits.encode() + entry.payload
    assert "0000000000000007" == entry.version_digits


def test_lua_reads_the_same_positions():
    """The commit step reads exactly the header, and in it kind, ETag and version from where they stand."""
    source = script("commit").source
    assert [str(BODY_AT - 1)] == re.findall(r"GETRANGE', entry, 0, (\d+)", source)
    places = [(KIND_AT + 1, KIND_AT + 1), (KIND_AT + 2, BODY_AT), (1, VERSION_DIGITS)]
    found = [(int(a), int(b)) for a, b in re.findall(r"string\.sub\(header, (\d+), (\d+)\)", source)]
    assert places == list(dict.fromkeys(found))
