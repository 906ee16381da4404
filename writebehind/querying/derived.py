"""Data derived from documents, which has to hear of them: aliases of unique values, and results of queries."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from writebehind.documents.entry import Entry
from writebehind.documents.ids import DocumentId
from writebehind.querying.cached_queries import Queries
from writebehind.querying.unique_fields import Lookups
from writebehind.settings.collection import CollectionSettings


class Derived:
    """Tells lookups and queries what becomes of documents. Safe to share between threads.

    Each method raises `RedisUnavailableError` where Redis does not answer.
    """

    def __init__(self, lookups: Lookups, queries: Queries) -> None:
        """Join the parts."""
        self._lookups = lookups
        self._queries = queries

    def committed(
        self, writes: Sequence[tuple[DocumentId, Entry]], settings: CollectionSettings
    ) -> dict[str, dict[str, str]]:
        """Writes were committed, and nobody has been told so yet.

        Args:
            writes: documents of one collection, as entries with their versions.
            settings: of the collection.

        Returns:
            By member and field, the id of another document that has the same unique value.
        """
        return self._lookups.written(writes, settings) if settings.lookup else {}

    def persisting(self, collection: str, members: Collection[str]) -> None:
        """MongoDB has been given documents that are still pending."""
        self._queries.changed(collection, members)

    def persisted(self, writes: Sequence[tuple[DocumentId, Entry]], settings: CollectionSettings) -> None:
        """Documents of one collection are settled: MongoDB has these entries."""
        if settings.lookup:
            self._lookups.settled(writes, settings)

    def gave_way(self, writes: Sequence[tuple[str, int]]) -> None:
        """Entries, by members and versions, are gone, and MongoDB does not get them: readers see what it has."""
        self._lookups.gave_way(writes)

    def changed_outside(
        self, collection: str, members: Collection[str], bodies: Iterable[bytes], settings: CollectionSettings
    ) -> None:
        """Others have changed documents in MongoDB; `bodies` are what they made of them, as far as it is known."""
        self._queries.changed(collection, members)
        self._lookups.outdated(collection, bodies, settings)

    def forgotten(self, collection: str) -> None:
        """Nobody knows what has changed in a collection."""
        self._queries.forget(collection)
