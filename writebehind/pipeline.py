"""The composition root: settings in, a working pipeline out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import TracebackType
from typing import Any, Self

from pymongo import MongoClient

from writebehind import strict
from writebehind.change_stream.listener import Listener
from writebehind.collection import Collection
from writebehind.consistency.api import Api, path_of
from writebehind.consistency.changes import Changes
from writebehind.consistency.observer import Observer
from writebehind.documents.ids import DocumentId
from writebehind.errors import ConfigurationError, UnknownCollectionError
from writebehind.history.latencies import FiguresOfHost, nothing_known
from writebehind.history.outlook import Caps
from writebehind.history.recorder import Recorder
from writebehind.hooks import Hooks
from writebehind.parts import Parts
from writebehind.redis.cache import RefreshSink
from writebehind.redis.pending import HintSink
from writebehind.redis.shared.totals import Totals
from writebehind.redis.wire import Wire
from writebehind.settings.installation import Settings, sought_file
from writebehind.settings.names import COLLECTION_NAME
from writebehind.settings.running import find
from writebehind.status import Status
from writebehind.writing.writer import WriterParts

log = logging.getLogger(__name__)

#: Collections that are not in the settings of which this process keeps more than the name, those used last.
MOST_UNLISTED = 1_000


def connect(
    settings: Settings | None = None,
    *,
    hints: HintSink | None = None,
    refreshes: RefreshSink | None = None,
    hooks: Mapping[str, Hooks] | None = None,
) -> Pipeline:
    """Build a pipeline. Nothing is connected until it is used.

    Args:
        settings: by default what the environment and `writebehind.toml` say; where they name no server, those
            of `writebehind up`, if it runs in this directory.
        hints: takes the flush tasks that are wanted, such as `writebehind.celery.FlushPublisher`. Without it,
            pending documents wait until the sweep finds them.
        refreshes: takes the refreshes of entries that are served stale; by default a thread of this process does.
        hooks: of this process, by collection, in the place of those that the settings name.

    Raises:
        ConfigurationError: a setting is wrong, or no hook is where one should be.
        InvalidArgumentError: an argument is none of these.
        UnknownCollectionError: there are hooks of a collection that is not configured.
    """
    settings = find().settings if settings is None else settings
    return Pipeline(settings, hints=hints, refreshes=refreshes, hooks=hooks)


class Pipeline(Parts):
    """One installation: its collections, and who watches over it. Safe to share between threads."""

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
        super().__init__(settings, hints=hints, refreshes=refreshes, hooks=hooks, wire=wire, client=client)
        self._status = Status(
            self.store,
            self.reader,
            breaker=self.breaker,
            dead_letters=self.dead_letters,
            drift=self.reconciler.history,
            caps=Caps(settings.max_pending_per_partition, settings.max_memory_percent / 100),
            ping=self.sink.ping,
            settings=self.collection_settings,
        )
        # A wrong schema file should stop the start, not the first write.
        self._listed = {name: self._bind(name) for name in settings.collections}
        # The names of others come from clients.
        self._bind_unlisted = lru_cache(MOST_UNLISTED)(self._bind)
        for name in self.hooks.given:  # none that nothing would call
            self.collection(name)
        if self._unlisted is not None:
            self.hooks.of("")

    def collection(self, name: str) -> Collection:
        """The documents of one collection.

        Raises:
            InvalidArgumentError: its name is no text.
            UnknownCollectionError: it is not configured.
        """
        return self._listed.get(strict.text("name", name)) or self._bind_unlisted(name)

    def listener(self) -> Listener:
        """The listener, which brings changes of others to the cache: run it in a thread or process of its own."""
        return Listener(
            self.store,
            self._client,
            self.settings.mongodb_database,
            self.applier,
            collections=self.settings.collections if self._unlisted is None else None,
            check=self.check,
        )

    def recorder(
        self,
        *,
        figures_of_this_host: FiguresOfHost = nothing_known,
        depths: Callable[[], Mapping[str, int]] = dict,
        close_depths: Callable[[], object] = lambda: None,
    ) -> Recorder:
        """The recorder of the history, for a thread of its own; see there for the arguments."""
        return Recorder(
            self.store,
            mongodb=self.sink,
            breaker=self.breaker,
            settings=self.collection_settings,
            figures_of_this_host=figures_of_this_host,
            depths=depths,
            close_depths=close_depths,
        )

    def observer(self, *, api: str = "") -> Observer:
        """The observer, which says which part of what readers see is right: for a thread or process of its own.

        Args:
            api: the address of an API of this installation, such as `http://127.0.0.1:8000`, which is asked too.

        Raises:
            ConfigurationError: the settings leave no CPU time for one.
        """
        if not self.settings.consistency_cpu_percent:
            raise ConfigurationError(
                "consistency_cpu_percent is 0: nobody looks whether readers see what is right"
            )
        collections = self.settings.collections if self._unlisted is None else None
        return Observer(
            self.store,
            self.sink,
            Changes(self._client, self.settings.mongodb_database, collections=collections),
            settings=self.collection_settings,
            read=lambda one: self.reader.get(one, self.collection_settings(one.collection)),
            part=self.settings.consistency_cpu_percent / 100,
            api=Api(api, self._path) if api else None,
        )

    def _path(self, one: DocumentId) -> str | None:
        """The path of a document in the API; `None` where its id leads to another one, or to none."""
        try:
            return path_of(one) if self.collection(one.collection).is_named_by_its_text(one) else None
        except UnknownCollectionError:
            return None

    def check(self) -> None:
        """See that Redis answers, belongs to the database of the settings, and is divided as they say.

        In a Redis that nobody has used yet this records both.

        Raises:
            ConfigurationError: it does not, or is divided differently.
            RedisUnavailableError: it does not answer.
        """
        self.store.check()

    def status(self, *, partitions: bool = False, totals: Totals | None = None) -> dict[str, Any]:
        """The figures of `/admin/status`; each partition's too if asked for.

        The `hit_ratio`, and of `consistency` what an observer has seen, may be up to 10 s old. `totals` are read
        unless they were just now.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        self.clock.look()
        return self._status.figures(partitions=strict.flag("partitions", partitions), totals=totals)

    def close(self) -> None:
        """Close the connections: what needs MongoDB is refused from here on with `PipelineClosedError`."""
        self.warmer.stop()
        self.hot_keys.close()
        self.reader.close()
        self._wire.close()
        self.sink.close()
        self.tallies.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _bind(self, name: str) -> Collection:
        if not COLLECTION_NAME.fullmatch(name):
            raise UnknownCollectionError(f"no collection can be called {name[:120]!r}")
        settings = self.settings.collections.get(name) or self._unlisted
        if settings is None:
            unknown = UnknownCollectionError(
                f"collection {name[:120]!r} is not configured: add [collections.{name[:120]}] to writebehind.toml"
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
            self.settings.confirm_timeout_ms,
            self.settings.max_document_bytes,
            self.tallies,
        )
        return Collection(name, settings, parts, self.lookups, self.queries, hooks=self.hooks.of(name))
