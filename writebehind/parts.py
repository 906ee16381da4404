"""The parts of one installation, as its settings describe them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from pymongo import MongoClient

from writebehind import forks, strict
from writebehind.access.keyring import Keyring
from writebehind.access.seen import SeenKeys
from writebehind.change_stream.applier import Applier
from writebehind.change_stream.conflicts import Conflicts
from writebehind.change_stream.listener_state import listener_status
from writebehind.collection import Collection
from writebehind.errors import UnknownCollectionError
from writebehind.flushing.contention import Contention
from writebehind.flushing.damaged import DamagedWrites
from writebehind.flushing.dead_letters import DeadLetters
from writebehind.flushing.deletion_audit import GRACE_LEASES, DeletionAudit
from writebehind.flushing.flusher import EARLY_PART, Flusher, FlushLimits
from writebehind.flushing.homecoming import Homecoming
from writebehind.history.turns import Pace
from writebehind.hooks import Hooks, InstalledHooks
from writebehind.last_known import LastKnown
from writebehind.logs.states import StateLog
from writebehind.maintenance.clock import ClockWatch
from writebehind.maintenance.periodic import Maintenance
from writebehind.maintenance.periods import periods
from writebehind.mongodb.breaker import MongoBreaker
from writebehind.mongodb.client import mongo_client
from writebehind.mongodb.fresh_reads import FreshReads
from writebehind.mongodb.sink import Sink
from writebehind.querying.cached_queries import Queries
from writebehind.querying.derived import Derived
from writebehind.querying.listing import Listing
from writebehind.querying.unique_fields import Lookups
from writebehind.reading.loader import Loader
from writebehind.reading.reader import Reader
from writebehind.reading.revalidation import Revalidation
from writebehind.reconcile.entries import EntryCheck
from writebehind.reconcile.lost_writes import LostWrites
from writebehind.reconcile.partitions import PartitionCheck
from writebehind.reconcile.recommits import Recommits
from writebehind.reconcile.reconciler import ReconcileLimits, Reconciler, is_current
from writebehind.redis.cache import RefreshSink
from writebehind.redis.letters import HINT_LIFE_MS
from writebehind.redis.pending import HINT_SLACK_MS, Hint, HintSink
from writebehind.redis.shared.breaker import SharedBreaker
from writebehind.redis.shared.caps import Caps
from writebehind.redis.shared.load_sample import LoadSample, Sampler
from writebehind.redis.store import Store
from writebehind.redis.terms import Terms
from writebehind.redis.topology.addresses import fails_over, is_cluster, is_watched
from writebehind.redis.topology.opening import open_servers
from writebehind.redis.wire import Wire
from writebehind.settings.collection import CollectionSettings
from writebehind.settings.config_file import sought_file
from writebehind.settings.installation import Settings
from writebehind.settings.names import COLLECTION_NAME, RECEIPTS
from writebehind.settings.running import process_of, servers_of
from writebehind.settings.tokens import issuer_of, login_of
from writebehind.status import Status
from writebehind.tallies.tallies import Tallies
from writebehind.warming.hot_keys import HotKeys
from writebehind.warming.warmer import Warmer, WarmLimits
from writebehind.writing.admission import Admission
from writebehind.writing.committing import WriterParts

#: Collections that are not in the settings of which this process keeps more than the name, those used last.
MOST_UNLISTED = 1_000


def no_hints(hint: Hint) -> None:
    """Leave it to the sweep."""


class Parts:
    """The parts of one installation, joined. Safe to share between threads."""

    _is_watched = False

    def __init__(
        self,
        settings: Settings,
        *,
        hints: HintSink | None = None,
        refreshes: RefreshSink | None = None,
        hooks: Mapping[str, Hooks] | None = None,
        wire: Wire | None = None,
        client: MongoClient[Any] | None = None,
    ) -> None:
        """Join the parts; `wire` and `client` replace the connections that the settings describe.

        Raises:
            ConfigurationError: a setting is wrong.
            InvalidArgumentError: an argument is of another type.
        """
        strict.instance("settings", settings, Settings)
        for name, sink in (("hints", hints), ("refreshes", refreshes)):
            if sink is not None:
                strict.function(name, sink)
        self.settings = settings
        self.tallies = Tallies(settings.metrics_dir, settings.collections)
        self._unlisted = settings.unlisted
        self.hooks = InstalledHooks(hooks, lambda name: self.collection_settings(name).hooks)
        self._wire = (
            wire if wire is not None else Wire(open_servers(settings.redis_url, settings.redis_timeout_ms))
        )
        self._own_client = client is None
        self._client = client if client is not None else self._connected()
        self._hints = no_hints if hints is None else hints
        self.store = self._opened(is_hinting=hints is not None)
        self.breaker = MongoBreaker(SharedBreaker(self._wire), probe_ms=settings.mongodb_timeout_ms + 1_000)
        self.sink = Sink(
            self._client,
            settings.mongodb_database,
            timeout_ms=settings.mongodb_timeout_ms,
            breaker=self.breaker,
            shard_key=lambda name: self.collection_settings(name).key,
            reads=FreshReads(settings.mongodb_read_preference, settings.mongodb_read_concern),
        )
        self.keyring = Keyring(
            self.store.api_keys,
            settings.root_key,
            issuer_of(settings),
            SeenKeys(settings.state_dir or settings.metrics_dir, servers_of(settings)),
        )
        self.login = login_of(settings)
        self.clock = ClockWatch(self.store)
        caps = Caps(settings.max_pending_per_partition, settings.max_memory_percent / 100)
        self.last_known = LastKnown(
            settings.state_dir or settings.metrics_dir, of=servers_of(settings), judge=self.store.lost_data.judge
        )
        self._wire.outage.aside = self.last_known.told
        self._sampler = Sampler(self.store.load_recorded, self._see_load)
        self._admission = Admission(
            self._sampler,
            caps,
            self.store.tell_caps,
            confirm_replicas=settings.confirm_replicas,
            confirm_timeout_ms=settings.confirm_timeout_ms,
        )
        self.hot_keys = HotKeys(
            self.store,
            samples=settings.hot_samples,
            most=settings.hot_keys,
            half_life_s=settings.hot_half_life,
        )
        self.loader = Loader(
            self.store,
            self.sink,
            load_timeout_ms=settings.load_timeout_ms,
            is_full=lambda: self._sampler.look().keeps_for_hot,
            tallies=self.tallies,
        )
        self.revalidation = Revalidation(
            self.store,
            self.loader,
            load_timeout_ms=settings.load_timeout_ms,
            settings=self.collection_settings,
            refreshes=refreshes,
            tallies=self.tallies,
        )
        self.reader = self._reader()
        self.lookups = Lookups(self.store, self.sink, self.reader, load_timeout_ms=settings.load_timeout_ms)
        self.queries, self.listing = self._queries(), self._listing()
        self.derived = Derived(self.lookups, self.queries)
        self.dead_letters = DeadLetters(self.store, self._hints, self.sink, self.derived, self.collection_settings)
        self.conflicts = Conflicts(self.store, self.derived)
        self.contention = Contention(
            self.store, self.sink, self.dead_letters, lambda name: self.collection_settings(name).lookup
        )
        self.applier = Applier(
            self.store,
            self.sink,
            self.derived,
            self.conflicts,
            settings=self.collection_settings,
            contention=self.contention,
        )
        self.homecoming = Homecoming(self.store, self._hints, self.derived, self.collection_settings)
        self.flusher, self.reconciler = self._flusher(), self._reconciler()
        recommits = Recommits(
            *(self.store, self.sink, self._hints, self.derived),
            settings=self.collection_settings,
            grace_ms=GRACE_LEASES * settings.lease_ms,
            load_timeout_ms=settings.load_timeout_ms,
        )
        self.lost_writes = LostWrites(
            *(self.store, recommits, self.reconciler.history),
            tallies=self.tallies,
            answer_ms=settings.redis_timeout_ms,
        )
        self._wire.greet(
            Terms(
                *(self.store.layout, settings.mongodb_database),
                approached=self.lost_writes.approach,
                met=self.lost_writes.meet,
                is_watched=is_watched(settings.redis_url),
                is_cluster=is_cluster(settings.redis_url),
            ).greet
        )
        if fails_over(settings.redis_url):  # where it does not say so, the first replica that is seen does
            self.store.recent.there_are_replicas()
        self.warmer = self._warmer()
        self.maintenance = Maintenance(
            settings,
            self.store,
            self._hints,
            clock=self.clock,
            sampler=self._sampler,
            contention=self.contention,
            reconciler=self.reconciler,
            warmer=self.warmer,
            hot_keys=self.hot_keys,
            audit=DeletionAudit(self.store, self.sink, lease_ms=settings.lease_ms),
        )
        self._status = Status(
            self.store,
            self.reader,
            breaker=self.breaker,
            dead_letters=self.dead_letters,
            drift=self.reconciler.history,
            caps=caps,
            pace=Pace(
                batch_s=settings.batch_target_ms / 1000,
                overdue_s=(HINT_SLACK_MS + 2 * settings.batch_target_ms) / 1000,
                longest_delay_s=settings.longest_flush_delay_ms / 1000,
                lease_s=settings.lease_ms / 1000,
                sweep_s=float(settings.sweep_interval),
            ),
            periods=periods(settings),
            life=self.sink,
            mongodb_pid=lambda: process_of("mongodb", settings.mongodb_url),
            settings=self.collection_settings,
            apart=self.tallies.apart,
        )
        # A wrong schema file should stop the start, not the first write.
        self._listed = {name: self._bind(name) for name in settings.collections}
        # The names of others come from clients.
        self._bind_unlisted = lru_cache(MOST_UNLISTED)(self._bind)
        for name in self.hooks.given:  # none that nothing would call
            self.collection(name)
        if self._unlisted is not None:
            self.hooks.of("")
        forks.begins_anew(self)

    @property
    def redis_outage(self) -> StateLog:
        """Whether Redis is away, for the log."""
        return self._wire.outage

    def begin_anew(self) -> None:
        """Reach MongoDB by a client of this process. One that was passed in is for its owner to see to."""
        self._is_watched = False  # a thread of the parent does that
        if self._own_client:
            self._parents_client = self._client  # or it would warn that nobody has closed it
            self._client = self._connected()
            self.sink.use(self._client)

    def _see_load(self, sample: LoadSample) -> None:
        """See what a sample says beside the load: what is at stake too, unless a thread does."""
        self.clock.look()
        if not self._is_watched:
            self._note_at_stake(sample)

    def _note_at_stake(self, sample: LoadSample) -> None:
        """Note what a sample says is at stake, where no exporter has lately."""
        if not sample.away:
            self.last_known.note_where_due(
                pending=sum(sample.pending),
                size=lambda: self.store.unsettled.pending_bytes(dict(enumerate(sample.pending))),
                dead_letters=sum(sample.dead.values()),
            )

    def _connected(self) -> MongoClient[Any]:
        return mongo_client(self.settings.mongodb_url, self.settings.mongodb_timeout_ms, self.tallies)

    def collection(self, name: str) -> Collection:
        """The documents of one collection.

        Raises:
            InvalidArgumentError: its name is no text.
            UnknownCollectionError: it is not configured.
        """
        return self._listed.get(strict.text("name", name)) or self._bind_unlisted(name)

    def collection_settings(self, name: str) -> CollectionSettings:
        """The settings of a collection; the defaults where it has been taken out of the settings since."""
        found = self.settings.collections.get(name) or self._unlisted
        return found or CollectionSettings.model_validate(self.settings.defaults)

    def _reader(self) -> Reader:
        return Reader(
            self.store,
            self.sink,
            self.loader,
            self.revalidation,
            sampler=self._sampler,
            seen=self.hot_keys.seen if self.settings.hot_samples else lambda _: None,
            tallies=self.tallies,
        )

    def _queries(self) -> Queries:
        return Queries(
            self.store,
            self.sink,
            self.reader,
            load_timeout_ms=self.settings.load_timeout_ms,
            interval_ms=int(self.settings.query_interval * 1000),
            dead=self._dead_letters_of,
            settings=self.collection_settings,
        )

    def _listing(self) -> Listing:
        return Listing(self.store, self.sink, self.reader, dead=self._dead_letters_of)

    def _dead_letters_of(self, collection: str) -> int:
        """The number of dead letters that a collection had a moment ago."""
        return self._sampler.look().dead.get(collection, 0)

    def _opened(self, *, is_hinting: bool) -> Store:
        """The store, which keeps up with the number of partitions, and says which collections are told apart."""
        store = Store(
            self._wire,
            database=self.settings.mongodb_database,
            partitions=self.settings.partitions,
            max_pending=self.settings.max_pending_per_partition,
            tombstone_ttl_ms=int(self.settings.tombstone_ttl * 1000),
            longest_delay_ms=self.settings.longest_flush_delay_ms,
            lease_ms=self.settings.lease_ms,
            hint_life_ms=HINT_LIFE_MS if is_hinting else 0,
            recommit_bytes=self.settings.recommit_bytes,
            receipt_life_ms=int(self.settings.idempotency_ttl * 1000),
            most_receipts=self.settings.idempotency_most,
        )
        store.keep_up()
        self._wire.record_by(store.record_servers)
        self.tallies.apart.by = store.labels.told_apart
        return store

    def _flusher(self) -> Flusher:
        stored = [*self.settings.collections.values(), *([self._unlisted] if self._unlisted else [])]
        return Flusher(
            self.store,
            self.sink,
            self._hints,
            self.collection_settings,
            FlushLimits(
                self.settings.batch_size,
                self.settings.lease_ms,
                least_batch=self.settings.min_batch_size,
                batch_target_s=self.settings.batch_target_ms / 1000,
                soon_ms=int(max((one.flush_delay_ms for one in stored), default=0) * EARLY_PART),
            ),
            derived=self.derived,
            contention=self.contention,
            hooks=self.hooks.of,
            tallies=self.tallies,
        )

    def _reconciler(self) -> Reconciler:
        settings = self.settings
        return Reconciler(
            self.store,
            ReconcileLimits(settings.reconcile_pass_s, settings.reconcile_interval, settings.load_timeout_ms),
            entries=EntryCheck(
                self.store,
                self.sink,
                self._hints,
                self.derived,
                self.conflicts,
                damaged=DamagedWrites(self.store, self.sink, self.derived),
                settings=self.collection_settings,
                listened=lambda: is_current(listener_status(self.store)),
            ),
            partitions=PartitionCheck(
                self.store,
                self.sink,
                self._hints,
                overdue_ms=settings.overdue_ms,
                lease_ms=settings.lease_ms,
                grace_ms=GRACE_LEASES * settings.lease_ms,
                homecoming=self.homecoming,
            ),
            homecoming=self.homecoming,
            tallies=self.tallies,
        )

    def _warmer(self) -> Warmer:
        settings = self.settings
        return Warmer(
            self.store,
            self.sink,
            self.loader,
            self.hot_keys,
            WarmLimits(
                settings.warm_interval,
                settings.warm_keys,
                settings.warm_rate,
                settings.batch_target_ms / 1000,
                settings.max_memory_percent / 100,
                settings.load_timeout_ms,
            ),
            sampler=self._sampler,
            breaker=self.breaker,
            listed=settings.collections,
            settings=self.collection_settings,
        )

    def _bind(self, name: str) -> Collection:
        if not COLLECTION_NAME.fullmatch(name):
            raise UnknownCollectionError(f"no collection can be called {name[:120]!r}")
        settings = self.settings.collections.get(name) or (self._unlisted if name != RECEIPTS else None)
        if settings is None:
            reserved = f", and /v1/{RECEIPTS} is taken by a route" if name == RECEIPTS else ""
            unknown = UnknownCollectionError(
                f"collection {name[:120]!r} is not configured{reserved}: "
                f"add [collections.{name[:120]}] to writebehind.toml"
            )
            unknown.add_note(sought_file())  # no part of the message, which clients of the API get
            raise unknown
        parts = WriterParts(
            self.store,
            self.reader,
            self.derived,
            self.flusher,
            self._admission,
            self._hints,
            self.settings.persist_timeout_ms,
            self.settings.max_document_bytes,
            self.tallies,
        )
        return Collection(
            name, settings, parts, self.lookups, self.queries, listing=self.listing, hooks=self.hooks.of(name)
        )
