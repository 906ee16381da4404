"""Cache-aside reads: from Redis, or loaded."""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from writebehind.documents.entry import Entry
from writebehind.documents.ids import DocumentId
from writebehind.errors import RedisNotReadyError, RedisUnavailableError
from writebehind.mongodb.sink import Sink
from writebehind.reading.freshness import fresh_ms
from writebehind.reading.loader import Loader
from writebehind.reading.portions import each
from writebehind.reading.read import Read, Source, hit_ratio
from writebehind.reading.revalidation import Revalidation
from writebehind.redis.reach import is_away
from writebehind.redis.round_trip import RoundTrip, UndecidedError
from writebehind.redis.shared.load_sample import Sampler
from writebehind.redis.store import Store
from writebehind.sequences import grouped
from writebehind.settings.collection import CollectionSettings
from writebehind.tallies import families
from writebehind.tallies.files import Series
from writebehind.tallies.meters import Meter, Meters
from writebehind.tallies.tallies import Tallies

log = logging.getLogger(__name__)

#: Of more documents that are read at once, so many are looked at whether they should be read anew. A PTTL costs
#: about as much as the rest of reading a document.
MOST_TIMED = 4


class Reader:
    """Reads documents through the cache. Safe to share between threads.

    `get` and `get_many` answer what was acknowledged last, or fail. `get_or_bypass` and `get_many_or_bypass` are
    for those who would rather have what MongoDB has than nothing, where the collection's settings allow it.
    """

    def __init__(
        self,
        store: Store,
        sink: Sink,
        loader: Loader,
        revalidation: Revalidation,
        *,
        sampler: Sampler,
        seen: Callable[[str], None],
        tallies: Tallies,
    ) -> None:
        """Join the parts.

        Args:
            store: the cache.
            sink: what MongoDB has.
            loader: loads what is missing.
            revalidation: serves what is there.
            sampler: tells of a Redis that belongs to another MongoDB database, or was divided anew: nothing is
                read from it, as entries are of others, or elsewhere.
            seen: is told each member that is read.
            tallies: count the reads.
        """
        self._store = store
        self._sink = sink
        self._loader = loader
        self._revalidation = revalidation
        self._sampler = sampler
        self._seen = seen
        self._tallies = tallies
        self._times: Meters[tuple[str, Source]] = Meters(self._time)

    def get_or_bypass(self, document_id: DocumentId, settings: CollectionSettings) -> Read:
        """`get`, from MongoDB where Redis does not answer.

        Raises:
            MongoUnavailableError: it is not cached, and MongoDB does not answer.
            RedisUnavailableError: Redis does not answer, and the collection's settings do not allow to bypass it.
            SpoiledError: what other hands have put there is in the way.
        """
        try:
            return self.get(document_id, settings)
        except RedisUnavailableError as error:
            if not settings.may_bypass(error):
                raise
            began = time.perf_counter()
            read = self._loader.bypass(document_id)
            self.note(read, document_id.collection, began)
            return read

    def get_many_or_bypass(
        self, ids: Sequence[DocumentId], settings: CollectionSettings
    ) -> tuple[list[Entry], bool]:
        """The same for several documents of one collection, in their order; and whether Redis was bypassed."""
        entries, bypassed = self._many_or_bypass(ids, settings)
        return entries, bool(bypassed)

    def get_each_or_bypass(
        self, ids: Sequence[DocumentId], settings: CollectionSettings
    ) -> Iterator[tuple[Entry, bool]]:
        """The same in portions, which are read when their turn comes; of each whether Redis was bypassed."""

        def short(some: Sequence[DocumentId], below_bytes: int) -> dict[str, tuple[Entry, bool]]:
            found = self.get_short(some, settings, below_bytes=below_bytes, counted=True)
            return {member: (entry, False) for member, entry in found.items()}

        def read(some: Sequence[DocumentId]) -> list[tuple[Entry, bool]]:
            entries, bypassed = self._many_or_bypass(some, settings)
            return [(entry, one.member in bypassed) for one, entry in zip(some, entries, strict=True)]

        return each(self._store, ids, short, read)

    def get(self, document_id: DocumentId, settings: CollectionSettings) -> Read:
        """Read the latest acknowledged state of one document, for a client.

        Raises:
            MongoUnavailableError: it is not cached, and MongoDB does not answer.
            RedisUnavailableError: Redis does not answer, or is divided in another way than this process knows.
        """
        began = time.perf_counter()
        read = self.look(document_id, settings)
        self.note(read, document_id.collection, began, document_id)
        return read

    def trip(
        self, document_id: DocumentId, settings: CollectionSettings, most_bytes: int
    ) -> RoundTrip[Read] | None:
        """`get` in two halves, of a document of so many bytes that Redis has; `None` where it may take more.

        What is missing, larger or soon too old is not decided, and counted by whoever reads it then.
        """
        began = time.perf_counter()
        if not self._sampler.is_fresh() or self._sampler.look().misfit:
            return None
        collection = document_id.collection

        def conclude(entry: Entry, ttl_ms: int) -> Read:
            if entry.exists and self._revalidation.is_near(collection, ttl_ms, settings):
                raise UndecidedError
            read = Read(entry, Source.HIT, fresh_ms(entry, ttl_ms, settings))
            self.note(read, collection, began, document_id)
            return read

        return self._store.cache.trip(document_id.member, most_bytes, conclude)

    def look(self, document_id: DocumentId, settings: CollectionSettings, *, keep: bool = False) -> Read:
        """`get` for who answers a client something else: it is counted as no read.

        With `keep` it is in Redis afterwards, whatever it displaces there: for a write on a condition.

        Raises:
            RedisFullError: Redis has no memory to `keep` it.
            UnavailableError: as `get`.
        """
        self.check()
        member = document_id.member
        entry, ttl_ms = self._store.cache.get(member)
        if entry is None:
            return self._loader.load(document_id, settings, keep=keep)
        return self._revalidation.serve(document_id.collection, {member: (entry, ttl_ms)}, settings)[member]

    def note(self, read: Read, collection: str, began: float, seen: DocumentId | None = None) -> None:
        """Count the answer that a client gets of one document, and the time that it took.

        Args:
            read: the answer.
            collection: of the document.
            began: when the client's read did, by `perf_counter`.
            seen: the document, which becomes hot by this if it exists.
        """
        if read.entry.exists:
            if seen is not None:
                self._seen(seen.member)
        elif read.source is Source.HIT:
            self._tallies.add(families.NEGATIVE_HITS, (collection,))
        self._times[collection, read.source].observe(time.perf_counter() - began)

    def get_many(
        self, ids: Sequence[DocumentId], settings: CollectionSettings, *, counted: bool = True, told: bool = True
    ) -> list[Entry]:
        """`get` for several documents of one collection, in their order; one round trip when all are cached.

        Unless they are `counted`, they do not become hot by this: see `count`. Unless they are `told`, they are no
        reads: see `count_reads`.

        Raises:
            MongoUnavailableError: some are not cached, and MongoDB does not answer.
            RedisUnavailableError: as `get`.
        """
        self.check()
        found = self._cached_many(ids, settings)
        missing = list({one.member: one for one in ids if one.member not in found}.values())
        if missing:
            found |= self._loader.load_many(missing, settings)
        if counted:
            self.count(one.member for one in ids if found[one.member].exists)
        if told:
            self.count_reads(ids, Source.HIT, len(ids) - len(missing))
            self.count_reads(ids, Source.MISS, len(missing))
        return [found[one.member] for one in ids]

    def get_short(
        self,
        ids: Sequence[DocumentId],
        settings: CollectionSettings,
        *,
        below_bytes: int,
        counted: bool,
        told: bool = True,
    ) -> dict[str, Entry]:
        """Those of several documents that Redis has and that take less than so many bytes there, by member.

        One round trip, which brings no more of any. `counted` and `told` as for `get_many`.

        Raises:
            RedisUnavailableError: as `get`.
        """
        self.check()
        found = self._cached_many(ids, settings, below_bytes=below_bytes)
        if counted:
            self.count(member for member, entry in found.items() if entry.exists)
        if told:
            self.count_reads(ids, Source.HIT, len(found))
        return found

    def count(self, members: Iterable[str]) -> None:
        """Count documents as read, of which more were looked at than read.

        Those that exist: else who asks for many absent ids would have warming ask for them again and again.
        """
        for one in members:
            self._seen(one)

    def count_reads(self, ids: Sequence[DocumentId], source: Source, number: int) -> None:
        """Count reads of several documents of one collection, by the source of their answers."""
        if number:
            self._tallies.add(families.READS, (ids[0].collection, source.value), number)

    def hit_ratio(self) -> float | None:
        """The part of the reads of this host's processes that Redis has answered; `None` where none is known.

        Without a directory of counts these are the reads of this process.
        """
        try:
            counts = self._tallies.read()
        except OSError as error:
            log.debug("the counts of this host's processes cannot be read: %s", error)
            return None
        return ratio_of(counts)

    def check(self) -> None:
        """See that this Redis holds the documents of this process's database, where it looks for them.

        Raises:
            RedisUnavailableError: it does not, or does not answer.
        """
        self._sampler.look().check()

    def close(self) -> None:
        """End the thread that refreshes."""
        self._revalidation.close()

    def _many_or_bypass(
        self, ids: Sequence[DocumentId], settings: CollectionSettings
    ) -> tuple[list[Entry], set[str]]:
        """Several documents; and the members for which Redis was bypassed, as their servers are away."""
        try:
            return self.get_many(ids, settings), set()
        except RedisUnavailableError as error:
            if not settings.may_bypass(error):
                raise
            found = self._of_others(ids, settings, error) if is_away(error) else {}
            left = [one for one in ids if one.member not in found]
            entries = self._sink.find_many(left) if left else []
            self.count_reads(left, Source.BYPASS, len(entries))
            found |= {one.member: entry for one, entry in zip(left, entries, strict=True)}
            return [found[one.member] for one in ids], {one.member for one in left}

    def _of_others(
        self, ids: Sequence[DocumentId], settings: CollectionSettings, failed: RedisUnavailableError
    ) -> dict[str, Entry]:
        """Those of several documents whose servers answer, where not all of them are on one.

        A server that does not serve one partition, as it answers, may serve others.
        """
        found: dict[str, Entry] = {}
        if isinstance(failed, RedisNotReadyError):
            apart = [*grouped(ids, lambda one: self._store.partition_of(one.member)).values()]
        else:
            apart = [*grouped(ids, lambda one: self._store.server_of_member(one.member)).values()]
        for some in apart if len(apart) > 1 else ():
            try:
                entries = self.get_many(some, settings)
            except RedisUnavailableError as error:
                if not is_away(error):
                    raise
            else:
                found |= {one.member: entry for one, entry in zip(some, entries, strict=True)}
        return found

    def _time(self, of: tuple[str, Source]) -> Meter:
        collection, source = of
        labels = (collection, source.value)
        return Meter(self._tallies, families.READ_TIMES, labels, counter=families.READS)

    def _cached_many(
        self, ids: Sequence[DocumentId], settings: CollectionSettings, *, below_bytes: int = 0
    ) -> dict[str, Entry]:
        if not ids:
            return {}
        timed = members = [one.member for one in ids]
        if not settings.grace_ms and len(members) > MOST_TIMED:
            timed = random.sample(members, MOST_TIMED)  # what is hot is read, and drawn, again and again
        if below_bytes:
            cached = self._store.cache.get_short_with_ttl(members, timed, below_bytes=below_bytes)
        else:
            cached = self._store.cache.get_many_with_ttl(members, timed)
        looked_at = {member: cached[member] for member in timed if member in cached}
        reads = self._revalidation.serve(ids[0].collection, looked_at, settings)
        entries = {member: entry for member, (entry, _) in cached.items()}
        return entries | {member: read.entry for member, read in reads.items()}


def ratio_of(counts: Mapping[Series, Sequence[float]]) -> float | None:
    """The part of the reads that Redis has answered, by what processes have counted; `None` for no reads."""
    reads: Counter[str] = Counter()
    for (family, labels), numbers in counts.items():
        if family == families.READS.name:
            _, source = labels
            reads[source] += int(numbers[0])
    return hit_ratio(reads)
