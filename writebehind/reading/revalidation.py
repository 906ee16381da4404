"""Serves entries that are old, or soon will be, while one reader of all sees to it that each is read anew."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from writebehind.documents.entry import Entry
from writebehind.documents.ids import DocumentId
from writebehind.errors import MongoUnavailableError, RedisUnavailableError
from writebehind.logs.quoting import quoted
from writebehind.plurals import counted
from writebehind.reading.freshness import Freshness, Refresher, early_ms, fresh_ms, most_early_ms, state_of
from writebehind.reading.loader import Loader
from writebehind.reading.read import Read, Source
from writebehind.redis.cache import Filled, Refresh, RefreshSink
from writebehind.redis.store import Store
from writebehind.settings.collection import CollectionSettings
from writebehind.tallies import families
from writebehind.tallies.tallies import Tallies

log = logging.getLogger(__name__)

#: Reasons for a refresh, as they are counted.
_REASONS = {Freshness.DUE: "early", Freshness.STALE: "stale", Freshness.OVER: "over"}


class Revalidation:
    """Decides what cached entries are good for. Safe to share between threads."""

    def __init__(
        self,
        store: Store,
        loader: Loader,
        *,
        load_timeout_ms: int,
        settings: Callable[[str], CollectionSettings],
        refreshes: RefreshSink | None,
        tallies: Tallies,
    ) -> None:
        """Join the parts.

        Args:
            store: the cache.
            loader: loads what has to be read anew at once.
            load_timeout_ms: the life of the right to fill an entry.
            settings: of a collection, by name.
            refreshes: takes the refreshes of stale entries; `None` where a thread of this process does.
            tallies: count the refreshes.
        """
        self._tallies = tallies
        self._store = store
        self._loader = loader
        self._load_timeout_ms = load_timeout_ms
        self._settings = settings
        self._refresher = Refresher(self._try_to_refresh, self._give_back, life_ms=load_timeout_ms)
        self._refreshes = refreshes or self._refresher

    def serve(
        self, collection: str, found: Mapping[str, tuple[Entry, int]], settings: CollectionSettings
    ) -> dict[str, Read]:
        """Serve entries of a collection, given with their TTLs in ms, by member."""
        reads, old = {}, {}
        load_ms = self._loader.load_times.of(collection)
        for member, (entry, ttl_ms) in found.items():
            # Every read would pay for the draw: what has no TTL, or a long one, is not due.
            near = self.is_near(collection, ttl_ms, settings)
            state = state_of(entry, ttl_ms, settings, early_ms(load_ms, settings)) if near else Freshness.FRESH
            source = Source.HIT if state is Freshness.FRESH or state is Freshness.DUE else Source.STALE
            reads[member] = Read(entry, source, fresh_ms(entry, ttl_ms, settings))
            if state is not Freshness.FRESH:
                old[member] = state
        if old:
            try:
                reads |= self._read_anew(old, {member: found[member][1] for member in old}, settings)
            except (MongoUnavailableError, RedisUnavailableError) as error:
                log.debug("%s served as they are: %s", counted(len(old), "entry is", "entries are"), error)
        return reads

    def is_near(self, collection: str, ttl_ms: int, settings: CollectionSettings) -> bool:
        """Whether an entry with this TTL may be due to be read anew: else it is served as it is."""
        if ttl_ms < 0:
            return False
        return ttl_ms <= settings.grace_ms + most_early_ms(self._loader.load_times.of(collection), settings)

    def refresh(self, wanted: Refresh) -> Filled:
        """Replace an entry by what MongoDB has, unless it has changed since. Raises as `Loader.refresh`."""
        collection = DocumentId.from_member(wanted.member).collection
        return self._loader.refresh(wanted, self._settings(collection))

    def close(self) -> None:
        """End the thread that refreshes."""
        self._refresher.close()

    def _read_anew(
        self, states: Mapping[str, Freshness], ttls_ms: Mapping[str, int], settings: CollectionSettings
    ) -> dict[str, Read]:
        """See to entries that are not fresh, or soon will not be; those whose time is over are loaded at once."""
        sinks: dict[Freshness, RefreshSink] = {Freshness.DUE: self._refresher, Freshness.STALE: self._refreshes}
        here = [member for member, state in states.items() if sinks.get(state) is self._refresher]
        wanted = dict(ttls_ms)
        for member in here[self._refresher.room :]:  # the rest is left to later readers
            del wanted[member]
        if not wanted:
            return {}
        token, rights = self._store.loads.lease_refreshes(wanted, life_ms=self._load_timeout_ms)
        over = {}
        for member, right in rights.items():
            state = states[member]
            self._tallies.add(families.REFRESHES, (DocumentId.from_member(member).collection, _REASONS[state]))
            sink = sinks.get(state)
            if sink is None:
                over[member] = right
            else:
                sink(right)
        ids = [DocumentId.from_member(one) for one in over]
        loaded = self._loader.fill_many(ids, token, settings, over, keep=True)
        return {
            member: Read(entry, Source.REVALIDATED, stored=how.is_stored)
            for member, (entry, how) in loaded.items()
            if how is not Filled.REFUSED
        }

    def _try_to_refresh(self, wanted: Refresh) -> None:
        try:
            self.refresh(wanted)
        except (MongoUnavailableError, RedisUnavailableError) as error:
            log.debug("%s not refreshed: %s", quoted(wanted.member), error)

    def _give_back(self, rights: Sequence[Refresh]) -> None:
        try:
            self._store.loads.give_back(rights)
        except RedisUnavailableError as error:  # they run out by themselves
            log.debug("%s to refresh not given back: %s", counted(len(rights), "right"), error)
