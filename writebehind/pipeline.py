"""The composition root: settings in, a working pipeline out."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from writebehind import strict
from writebehind.access.hosts import is_loopback
from writebehind.alive import AliveFile
from writebehind.change_stream.listener import Listener
from writebehind.consistency.api import Api, path_of
from writebehind.consistency.changes import Changes
from writebehind.consistency.observer import Observer
from writebehind.documents.idempotency import check_key
from writebehind.documents.ids import DocumentId
from writebehind.errors import (
    ConfigurationError,
    ForeignRedisError,
    RedisForbidsError,
    RedisUnavailableError,
    UnknownCollectionError,
)
from writebehind.history.latencies import FiguresOfHost, nothing_known
from writebehind.history.recorder import Recorder
from writebehind.hooks import Hooks
from writebehind.last_known import AtStake
from writebehind.parts import Parts
from writebehind.plurals import counted
from writebehind.redis.cache import RefreshSink
from writebehind.redis.pending import HintSink
from writebehind.redis.reach import is_away, known
from writebehind.redis.shared.lost_data import together
from writebehind.redis.shared.totals import Totals
from writebehind.remedies import of_foreign, of_lost_data, of_lost_keys, of_mongodb, of_redis, of_refusal
from writebehind.settings.installation import Settings
from writebehind.settings.running import find, process_of
from writebehind.writing.receipts import KnownWrite, known_write

log = logging.getLogger(__name__)


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

    def listener(self) -> Listener:
        """The listener, which brings changes of others to the cache: run it in a thread or process of its own."""
        return Listener(
            self.store,
            self._client,
            self.settings.mongodb_database,
            self.applier,
            collections=self.settings.collections if self._unlisted is None else None,
            check=self.check,
            alive=AliveFile(self.settings.alive_file),
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
            last_known=self.last_known,
            sweep_s=self.settings.sweep_interval,
            figures_of_this_host=figures_of_this_host,
            depths=depths,
            close_depths=close_depths,
        )

    def observer(self, *, api: str = "", key: str = "") -> Observer:
        """The observer, which says which part of what readers see is right: for a thread or process of its own.

        Args:
            api: the address of an API of this installation, such as `http://127.0.0.1:8000`, which is asked too.
            key: an API key that may read there; by default the `root_key` of the settings, which is sent to no
                other host.

        Raises:
            ConfigurationError: the settings leave no CPU time for one; or the API is on another host, for which a
                key is needed, as there is a `root_key`.
        """
        if not self.settings.consistency_cpu_percent:
            raise ConfigurationError(
                "consistency_cpu_percent is 0: nobody looks whether readers see what is right"
            )
        if api and not key and (key := self.settings.root_key) and not is_loopback(urlsplit(api).hostname or ""):
            raise ConfigurationError(
                "the root key may do everything, and is sent to this machine only: for an API on another host "
                "give a key that may read, as `writebehind keys create` makes it"
            )
        collections = self.settings.collections if self._unlisted is None else None
        return Observer(
            self.store,
            self.sink,
            Changes(self._client, self.settings.mongodb_database, collections=collections),
            settings=self.collection_settings,
            read=lambda one: self.reader.get(one, self.collection_settings(one.collection)),
            part=self.settings.consistency_cpu_percent / 100,
            api=Api(api, self._path, key=key) if api else None,
            listed=self.settings.collections,
        )

    def receipt(self, key: str, *, collections: Iterable[str] | None = None, owner: str = "") -> KnownWrite:
        """The fate of the last write with this idempotency key.

        Args:
            key: of the write.
            collections: where it may have been; by default all that the settings list.
            owner: whose key it is; writes by HTTP have the id of the API key that they were sent with.

        Raises:
            InvalidArgumentError: it is no key.
            UnknownCollectionError: the settings list no such collection.
            RedisUnavailableError: Redis does not answer; where it is several servers, one of them.
        """
        names = self.settings.collections if collections is None else collections
        within = [self.collection(one).name for one in names]
        return known_write(self.store, check_key(strict.text("key", key)), within, strict.text("owner", owner))

    def watch_admission(self, stop: threading.Event) -> None:
        """Tell others the caps of this process, and the log when they are met no more: in a thread of its own.

        It also notes what is at stake. Without it all three happen when a document is written.
        """
        self._is_watched = True
        try:
            self._admission.watch(stop, self._note_at_stake)
        finally:
            self._is_watched = False

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
            RedisUnavailableError: Redis does not answer: `status_without_redis` has what is known then.
        """
        self.clock.look()
        figures = self._status.figures(partitions=strict.flag("partitions", partitions), totals=totals)
        data = None
        if not figures["away"]:
            data = self.last_known.note(
                **{name: figures[name] for name in ("pending", "pending_bytes", "dead_letters")},
            )
        lost = data.lost if data is not None else known(self._wire, self.store.lost_data.unseen, None)
        losses = None if lost is None else together(lost)
        figures["lost_data"] = None if losses is None else [one.as_dict() for one in losses]
        figures["lost_keys"] = known(self._wire, self.keyring.look_for_loss, None)
        if figures["lost_keys"]:
            figures["to_do"].insert(0, asdict(of_lost_keys()))
        if losses:
            figures["to_do"].insert(0, asdict(of_lost_data(map(str, losses))))
            figures |= _of_lost(losses, figures["not_safe_because"])
        return figures

    def keep_in(self, directory: Path) -> None:
        """Keep in this directory what outlives Redis: what was only there, and that there are API keys."""
        self.last_known.keep_in(directory)
        self.keyring.seen.keep_in(directory)

    def note_at_stake(self) -> None:
        """Note now what is only in Redis, for when it is away.

        Raises:
            RedisUnavailableError: it does not answer.
        """
        sample = self.store.load()
        if not sample.away:
            self.last_known.note(
                pending=sum(sample.pending),
                pending_bytes=self.store.unsettled.pending_bytes(dict(enumerate(sample.pending))),
                dead_letters=sum(sample.dead.values()),
            )

    def status_without_redis(self, error: RedisUnavailableError) -> dict[str, Any]:
        """The substitute for a status while Redis does not answer, by the error that it has failed with.

        `last_known` is what was only in Redis when a process of this host last saw all of it, `None` where none
        has; `to_do` says what to do, as in a status, about MongoDB too if it does not answer either.
        """
        seen = self.last_known.latest()
        to_do = []
        if is_away(error):
            to_do.append(of_redis(error, process_of("redis", self.settings.redis_url)))
            if self._status.is_mongodb_away():
                to_do.append(of_mongodb(process_of("mongodb", self.settings.mongodb_url)))
        elif isinstance(error, ForeignRedisError):
            to_do.append(of_foreign(error))
        elif isinstance(error, RedisForbidsError):
            to_do.append(of_refusal(f"NOPERM {error.public}"))
        return {"last_known": seen and seen.as_dict(), "to_do": [asdict(one) for one in to_do]}

    def close(self) -> None:
        """Close the connections: what needs MongoDB is refused from here on with `PipelineClosedError`."""
        self.lost_writes.close()
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


def _of_lost(losses: Sequence[AtStake], because: str | None) -> dict[str, Any]:
    """The figures of a status about what is safe, once what was acknowledged is lost and no operator knows."""
    documents = sum(one.documents for one in losses)
    lost = f"{counted(documents, 'document was', 'documents were')} lost with data of Redis"
    return {
        "safe": False,
        "seconds_until_safe": None,
        "not_safe_because": f"{because}; {lost}" if because else lost,
    }
