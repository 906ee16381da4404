"""The composition root: what a process keeps of what clients name."""

from __future__ import annotations

import gc

import pytest

from writebehind import connect, load_settings
from writebehind.collection import Collection
from writebehind.errors import UnknownCollectionError


def test_names_from_outside_do_not_fill_the_memory(monkeypatch):
    """However many collections clients name, a process keeps a bounded number, and those of its settings."""
    monkeypatch.setattr("writebehind.pipeline.MOST_UNLISTED", 10)
    settings = load_settings(allow_unlisted=True, collections={"users": {}})
    with connect(settings) as pipeline:
        users = pipeline.collection("users")
        for n in range(100):
            assert f"outside{n}" == pipeline.collection(f"outside{n}").name
        gc.collect()
        kept = {one.name for one in gc.get_objects() if isinstance(one, Collection)}
        assert {f"outside{n}" for n in range(90, 100)} == {name for name in kept if name.startswith("outside")}
        assert users is pipeline.collection("users")
        assert pipeline.collection("outside99") is pipeline.collection("outside99")


def test_a_collection_that_is_not_listed():
    """Without `allow_unlisted` there are only those of the settings."""
    with connect(load_settings(collections={"users": {}})) as pipeline, pytest.raises(UnknownCollectionError):
        pipeline.collection("others")
