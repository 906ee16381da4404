"""Receipts as Redis keeps them."""

from __future__ import annotations

from hypothesis import given
from hypothesis.strategies import characters, text

from writebehind.documents import codec
from writebehind.redis.receipts import answer_of

TEXT = text(characters(exclude_categories=["Cs"]))


@given(member=TEXT, etag=TEXT)
def test_an_answer_without_values_is_the_same_bson(member, etag):
    """It is put together by hand, as the codec takes several times as long."""
    assert codec.encode({"m": member, "e": etag, "c": False, "v": []}) == answer_of(member, etag)
