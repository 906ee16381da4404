"""Readers of a store, joined as the pipeline joins them."""

from __future__ import annotations

from types import SimpleNamespace

from writebehind import CollectionSettings
from writebehind.reading.loader import Loader
from writebehind.reading.reader import Reader
from writebehind.reading.revalidation import Revalidation


def reader_of(store, sink, *, load_timeout_ms, settings=None, refreshes=None) -> Reader:
    """A reader that counts nothing, as if Redis had room for all, and had never been divided anew."""
    loader = Loader(store, sink, load_timeout_ms=load_timeout_ms, is_full=lambda: False)
    revalidation = Revalidation(
        store,
        loader,
        load_timeout_ms=load_timeout_ms,
        settings=settings or (lambda _: CollectionSettings.model_validate({})),
        refreshes=refreshes,
    )
    sampler = SimpleNamespace(look=lambda: SimpleNamespace(check_division=lambda: None))
    return Reader(store, sink, loader, revalidation, sampler=sampler, seen=lambda _: None)
