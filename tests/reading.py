"""Readers of a store, joined as the pipeline joins them."""

from __future__ import annotations

from writebehind import CollectionSettings
from writebehind.reading.loader import Loader
from writebehind.reading.reader import Reader
from writebehind.reading.revalidation import Revalidation


def reader_of(store, sink, *, load_timeout_ms, settings=None, refreshes=None) -> Reader:
    """A reader without a sampler, as if Redis had room for all."""
    loader = Loader(store, sink, load_timeout_ms=load_timeout_ms)
    revalidation = Revalidation(
        store,
        loader,
        load_timeout_ms=load_timeout_ms,
        settings=settings or (lambda _: CollectionSettings.model_validate({})),
        refreshes=refreshes,
    )
    return Reader(store, sink, loader, revalidation)
