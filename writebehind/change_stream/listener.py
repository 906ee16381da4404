"""Listens to MongoDB's change stream, and keeps the cache up with what others write.

Several may run: one has a lease in Redis and leads. It applies a batch of events, and only then notes how far it
is, so that whoever leads next goes on there: an event may be applied twice, and none is missed.
"""

from __future__ import annotations

import logging
import random
import re
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from uuid import uuid4

import bson
from bson.errors import InvalidBSON
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient, ReadPreference
from pymongo.change_stream import DatabaseChangeStream
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern

from writebehind import forks
from writebehind.alive import AliveFile
from writebehind.change_stream.applier import Applier
from writebehind.change_stream.asking import Asking
from writebehind.change_stream.events import age_s, read_change
from writebehind.change_stream.holding import Holding
from writebehind.change_stream.listener_state import ListenerState
from writebehind.change_stream.stream_errors import (
    HistoryLostError,
    NoStreamsError,
    TooLargeError,
    reason,
)
from writebehind.change_stream.verdicts import OutsideChange
from writebehind.documents.raw_bson import RAW_OPTIONS
from writebehind.errors import (
    ConfigurationError,
    ForeignDatabaseError,
    MongoUnavailableError,
    RedisUnavailableError,
    UnavailableError,
)
from writebehind.logs.quoting import quoted
from writebehind.outage_log import OutageLog
from writebehind.process_identity import mark
from writebehind.redis.reach import is_away
from writebehind.redis.store import Store
from writebehind.tracing import spans

log = logging.getLogger(__name__)

#: A leader that is not heard of for so long is succeeded, ms.
LEASE_MS = 5_000
#: How long one look at a quiet stream takes, and how long events are gathered, ms: so late may one be applied.
AWAIT_MS = 200
#: Most events that are applied at once, and most bytes of them.
BATCH, BATCH_BYTES = 500, 16 << 20
#: How many times fewer are asked for where an answer is larger than the driver takes.
FEWER = 8
#: Between two tries to lead, seconds.
RETRY_S = 0.5
#: After a failure, seconds: longer than somebody else waits who can perhaps do better.
FAILED_FROM_S, FAILED_TO_S = 2.0, 8.0
#: Between two looks whether a deployment without change streams has them by now, seconds.
WITHOUT_STREAMS_S = 60.0
#: Between two signs of life of a listener that has nothing to note, seconds.
ALIVE_EVERY_S = 1.0

#: What differs each time in words of a failure, such as how long nobody asks.
_FIGURES = re.compile(r"\b\d+\.\d+\b(?!\.)")
_DOCUMENT_CHANGES = {"insert", "update", "replace", "delete"}
_GONE = {"drop", "rename", "dropDatabase", "invalidate"}


class _NotLeadingError(Exception):
    """Another listener leads."""


class Listener:
    """One listener. `run` it in a thread or process of its own."""

    def __init__(
        self,
        store: Store,
        client: MongoClient[Any],
        database: str,
        applier: Applier,
        *,
        collections: Collection[str] | None,
        check: Callable[[], None],
        alive: AliveFile,
    ) -> None:
        """Join the parts; nothing is asked before `run`.

        Args:
            store: that has the lease.
            client: of the MongoDB that is listened to.
            database: its name there.
            applier: what brings changes to the cache.
            collections: those that are of interest; `None` for all.
            check: raises `ConfigurationError` where Redis is not as this process's settings say.
            alive: is touched while it listens, or waits to.
        """
        self._alive = alive
        self._faults = OutageLog(log, "change")
        self._collections = collections
        self._name_of_database = database
        self._tell: Callable[[str], None] | None = None
        self._check = check
        self._store = store
        # None of it as the URL says: only the primary is not behind, and streams are read from what is durable.
        self._database = client.get_database(
            database, RAW_OPTIONS, read_preference=ReadPreference.PRIMARY, read_concern=ReadConcern()
        )
        self._applier = applier
        self._state = ListenerState()
        self._batch = BATCH
        self._holding = Holding(store, self._apply)
        self.begin_anew()
        forks.begins_anew(self)

    def begin_anew(self) -> None:
        """Be another one than the parent process's, which may lead."""
        self._name = f"{socket.gethostname()}-{uuid4().hex[:8]}"
        self._token = uuid4().hex
        self._stopping = threading.Event()
        self._asking = Asking()
        #: While the next try is waited for; and when something was noted.
        self._pauses = False
        self._noted_at = time.monotonic()
        #: The last line about this, so that each is said once; and whether it was that this one listens.
        self._said, self._leads = "", False

    def stop(self) -> None:
        """Let `run` return soon."""
        self._stopping.set()

    def listen(self, say: Callable[[str], None] | None = None) -> None:
        """Lead, or wait to lead, until `stop`. Whatever fails is tried again.

        Args:
            say: takes a line when it listens, and when it waits as another one does; by default that is logged,
                as failures are.
        """
        self._tell, failed_s = say, 0.0
        alive = threading.Thread(target=self._live, name="listener-alive", daemon=True)
        alive.start()
        while not self._stopping.is_set():
            self._alive.touch()
            pause_s = RETRY_S
            try:
                self._lead()
                failed_s = 0.0
            except _NotLeadingError:
                self._lose("another one leads: see why this one was too slow, or cut off from Redis")
                self._say("leader_waits", f"waits, as another one listens to changes of {self._name_of_database}")
                failed_s = 0.0
            except NoStreamsError:
                self._fail(
                    "MongoDB is no replica set, so it has no change streams: changes show when entries expire"
                )
                pause_s = WITHOUT_STREAMS_S
            except ForeignDatabaseError as error:  # whose status is not for this process to write
                self._warn(str(error))
                self._let_go()
                self._stopping.wait(random.uniform(0.5, 1) * FAILED_TO_S)  # noqa: S311 - no secret
                continue
            except Exception as error:  # noqa: BLE001 - it is logged with its trace
                if not isinstance(error, (UnavailableError, ConfigurationError, PyMongoError)):
                    self._note_fault("the listener failed, and tries again", error)
                is_logged = getattr(error, "logged", False)  # that a server is lost
                if self._is_redis_lost(error):  # who could read a note finds it back, and this one goes on then
                    if not is_logged:
                        self._warn(reason(error))
                    failed_s = 0.0
                else:
                    self._fail(reason(error), logged=is_logged)
                    pause_s = failed_s = min(max(failed_s * 2, FAILED_FROM_S), FAILED_TO_S)
            self._pauses = pause_s > RETRY_S
            self._stopping.wait(random.uniform(0.5, 1) * pause_s)  # noqa: S311 - no secret
            self._pauses = False
        alive.join()
        self._let_go()

    # How --------------------------------------------------------------------------------------------

    def _lead(self) -> None:
        """Listen for as long as this is the leader, from where the last one has come to."""
        self._check()
        self._state = ListenerState.parse(self._renew())
        self._state.leader, self._state.process = self._name, mark()
        token = self._state.token
        lost = False
        while not self._stopping.is_set():
            lost = lost or not token  # nobody has listened to what has changed since the cache was filled
            self._holding.forget()  # they come once more: the token is from before them
            try:
                with self._open(token) as stream:
                    self._leads = True
                    self._say("leader_taken", f"listens to changes of {self._name_of_database}")
                    if lost:  # first the new stream, then the cache: what changes in between is in the stream
                        self._forget("")
                        self._note(stream)
                        lost = False
                    self._follow(stream)
                token = self._state.token
            except TooLargeError as error:
                if self._batch == 1:
                    raise MongoUnavailableError(str(error)) from error
                self._batch = max(1, self._batch // FEWER)
                token = token if lost else self._state.token
            except HistoryLostError as error:
                if not token:
                    raise MongoUnavailableError(str(error)) from error
                said = "changes were missed, so the cache is emptied; nothing is to be done: %s"
                log.warning(said, error, extra={"event": "changes_missed"})
                token, lost = "", True
                self._state.reopened += 1

    def _follow(self, stream: DatabaseChangeStream[Any]) -> None:
        """Apply what the stream brings; return where it can be opened anew for larger answers."""
        while not self._stopping.is_set():
            events = list(self._events(stream))
            self._check()  # Redis may have been divided anew, and this process forgotten
            self._holding.apply_held()
            if events:
                with spans.listener_batch(len(events)):
                    self._apply_all(events)
            self._state.events += len(events)
            self._state.lag_s = age_s(events[0]) if events else 0.0
            self._note(stream)
            if not events and self._batch < BATCH and not self._holding:
                self._batch = BATCH
                return

    def _apply_all(self, events: Sequence[Any]) -> None:
        """Apply events in their order."""
        changes: list[OutsideChange] = []
        for event in events:
            kind = event["operationType"]
            if kind in _DOCUMENT_CHANGES:
                if (change := self._change(event)) is not None:
                    changes.append(change)
            elif kind in _GONE:
                self._holding.apply(changes)
                changes = []
                self._gone(event)
        self._holding.apply(changes)

    def _events(self, stream: DatabaseChangeStream[Any]) -> Iterator[Any]:
        """Those that are there by now; none after a while in which nothing came."""
        until, size = time.monotonic() + AWAIT_MS / 1000, 0
        with self._asking.ask():
            for _ in range(BATCH):
                event = stream.try_next()
                if event is None:
                    if not stream.alive:
                        raise HistoryLostError("the database was dropped")
                    return
                yield event
                size += len(event.raw)
                # However steadily they come: who leads is to be heard of, and events are to be applied.
                if event["operationType"] == "invalidate" or size > BATCH_BYTES or time.monotonic() > until:
                    return

    def _change(self, event: Any) -> OutsideChange | None:
        """The change that an event reports; `None` where it is of no document of ours, or cannot be understood."""
        collection = event["ns"]["coll"]
        if self._collections is not None and collection not in self._collections:
            return None
        try:
            return read_change(event)
        except Exception as error:  # noqa: BLE001 - it is logged with its trace
            self._note_fault(f"a change in {collection} cannot be understood, and is skipped", error)
            self._state.skipped += 1
            return None

    def _apply(self, changes: Sequence[OutsideChange]) -> None:
        try:
            applied = self._applier.apply(changes)
        except (UnavailableError, PyMongoError):
            raise
        except Exception as error:  # noqa: BLE001 - it is logged with its trace
            if len(changes) > 1:  # one of them spoils it for the others
                for one in changes:
                    self._apply([one])
                return
            line = f"a change of {quoted(changes[0].id.member)} cannot be applied: what is cached is dropped"
            self._note_fault(line, error)
            self._state.skipped += 1
            applied = self._applier.distrust([changes[0].id])
        self._state.ours += applied.ours
        self._state.invalidated += applied.invalidated
        self._state.conflicts += applied.conflicts
        self._state.overtaken += applied.overtaken

    def _gone(self, event: Any) -> None:
        """A collection is gone, or another has its name now, or all are."""
        if event["operationType"] in {"drop", "rename"}:
            self._forget(event["ns"]["coll"])
            if event["operationType"] == "rename":
                self._forget(event["to"]["coll"])
        else:
            self._forget("")

    def _forget(self, collection: str) -> None:
        self._applier.outdo_pending(collection, self._stay)
        self._state.invalidated += self._applier.forget(collection, self._stay)

    @contextmanager
    def _open(self, token: str) -> Iterator[DatabaseChangeStream[Any]]:
        try:
            after = RawBSONDocument(bytes.fromhex(token)) if token else None
        except (ValueError, InvalidBSON) as error:
            raise HistoryLostError(f"the noted token is unreadable: {error}") from error
        with self._asking.ask():
            # A stream goes on after `invalidate` only with start_after, which takes any token.
            stream = self._database.watch(
                pipeline=self._pipeline(),
                full_document="updateLookup",
                start_after=after,
                max_await_time_ms=AWAIT_MS,
                batch_size=self._batch,
            )
        try:
            yield stream
        finally:
            stream.close()

    def _pipeline(self) -> list[dict[str, Any]]:
        """The aggregation that keeps events of interest, so that MongoDB looks up and sends no more."""
        if self._collections is None:
            return []
        wanted = [{"ns.coll": {"$in": list(self._collections)}}, {"operationType": {"$in": sorted(_GONE)}}]
        return [{"$match": {"$or": wanted}}]

    def _renew(self, noted: bytes = b"") -> bytes:
        known = self._store.position.lead(self._token, life_ms=LEASE_MS, noted=noted)
        if known is None:
            raise _NotLeadingError
        return known

    def _stay(self, noted: bytes = b"") -> None:
        """Lead on, and note something. While the server for that is away, nobody else can begin to."""
        try:
            self._renew(noted)
        except RedisUnavailableError as error:
            if not (is_away(error) and self._store.has_several):
                raise

    def _note(self, stream: DatabaseChangeStream[Any]) -> None:
        token = stream.resume_token
        if token is not None and not self._holding:
            self._state.token = bson.encode(token).hex()
        self._alive.touch()
        self._state.error = ""
        self._state.at_ms = self._state.alive_ms = self._state.heard_ms = self._store.now_ms()
        self._stay(self._state.dump())
        self._noted_at = time.monotonic()

    def _fail(self, reason: str, *, logged: bool = False) -> None:
        """Say what is wrong, unless another one leads; and let somebody else lead who can perhaps do better.

        The lease may have run out meanwhile: MongoDB takes longer not to answer.
        """
        if not logged:
            self._warn(reason)
        self._state.error = reason
        try:
            self._state = ListenerState.parse(self._renew())
            self._state.leader, self._state.process = self._name, mark()
            self._state.error, self._state.at_ms = reason, self._store.now_ms()
            self._renew(self._state.dump())
            self._noted_at = time.monotonic()
        except (RedisUnavailableError, _NotLeadingError):
            return  # there is nobody to tell
        self._let_go()

    def _is_redis_lost(self, error: Exception) -> bool:
        """Whether all of Redis is away: one of several servers is asked less often, as the others are with it."""
        return isinstance(error, RedisUnavailableError) and is_away(error) and not self._store.has_several

    def _warn(self, reason: str) -> None:
        line = f"not listening to changes: {reason}"
        if (kind := _FIGURES.sub("", line)) != self._said:  # also where another one has noted it
            self._said = kind
            event = {"event": "leader_lost" if self._leads else "listener_fails", "role": "listener"}
            self._leads = False
            log.warning("%s; it is tried again, and writebehind doctor says what to do", line, extra=event)

    def _live(self) -> None:
        """Note now and then that this process is at work while it waits, unless another one leads."""
        while not self._stopping.wait(ALIVE_EVERY_S):
            silent_s = time.monotonic() - self._noted_at
            waits = self._asking.is_open or self._pauses
            if waits:
                self._alive.touch()
            if waits and silent_s >= ALIVE_EVERY_S:
                with suppress(RedisUnavailableError, _NotLeadingError):
                    state = ListenerState.parse(self._renew())
                    state.leader, state.alive_ms = self._name, self._store.now_ms()
                    state.heard_ms = self._asking.heard_ms(state.heard_ms, state.alive_ms)
                    self._renew(state.dump())
                    # Somebody else may lead who can perhaps do better.
                    if self._pauses or silent_s * 1000 >= LEASE_MS:
                        self._let_go()

    def _note_fault(self, line: str, error: Exception) -> None:
        told = f"{line}: {error!r}"
        self._faults.note("a fault in listening", told, level=logging.ERROR, event="fault", error=error)

    def _say(self, event: str, line: str) -> None:
        if line == self._said:
            return
        self._said = line
        if self._tell is not None:
            self._tell(line)
        else:
            log.info("%s", line, extra={"event": event, "role": "listener"})

    def _lose(self, why: str) -> None:
        """Log that this one leads no longer, if it did."""
        if self._leads:
            self._leads = False
            log.warning("no longer listens: %s", why, extra={"event": "leader_lost", "role": "listener"})

    def _let_go(self) -> None:
        try:
            self._store.position.give_up(self._token)
        except RedisUnavailableError as error:
            log.debug("the lease was not given back, and runs out: %s", error)
