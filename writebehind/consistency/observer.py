"""Looks at what readers see, and says which part of it is right: Meta's Polaris, for one cache.

Something becomes wrong when it changes: in MongoDB, which its change stream tells, or in Redis, which a walk over
all entries sees. An entry that was what MongoDB has, and of which no change was reported since, is right while it
stays as it is: so MongoDB is asked about few. What looks wrong is looked at again after 1, 10 and 60 s. Nothing is
repaired. See docs/adr/0041-consistency-is-sampled.md.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection

from pymongo.errors import PyMongoError

from writebehind.consistency.api import Api, ApiLooks
from writebehind.consistency.budget import Budget
from writebehind.consistency.changes import Changes
from writebehind.consistency.comparing import Comparison
from writebehind.consistency.sources import Changed, PendingWalk, Walk
from writebehind.documents.ids import DocumentId
from writebehind.errors import UnavailableError, WritebehindError
from writebehind.logs.events import FAULT
from writebehind.mongodb.sink import Sink
from writebehind.outage_log import OutageLog
from writebehind.redis import keys
from writebehind.redis.store import Store
from writebehind.settings.collection import CollectionSettings

log = logging.getLogger(__name__)

#: One that is not heard of for so long is succeeded, ms; and the others look so often, seconds.
LEASE_MS, WAIT_S = 10_000, 2.0
#: Between two looks at the change stream, between two notes to Redis, and after a failure, seconds.
POLL_S, FLUSH_S, FAILED_S = 0.5, 1.0, 2.0
#: While it waits for what a step has cost, it says so often that it observes, seconds.
KEEP_S = 3.0
#: The log says that nobody looks where that takes so long, seconds.
LOGGED_S = 30.0
#: Between two looks whether Redis is as the settings say, seconds.
CHECK_S = 10.0


class Observer:
    """One observer. `run` it in a thread of its own, or call `step` again and again. For one thread.

    Attributes:
        budget: of CPU time.
        tally: counts of this observer.
        suspects: documents that are wrong, or seem so.
        walk: over all entries.
        has_led: whether it ever observed, as nobody else did.
        failure: why it could not look when it last failed; '' if it never did.
        api: looks at what an API answers, if one was named: also while another process observes.
    """

    def __init__(
        self,
        store: Store,
        sink: Sink,
        changes: Changes,
        *,
        settings: Callable[[str], CollectionSettings],
        read: Callable[[DocumentId], object],
        part: float,
        api: Api | None = None,
        listed: Collection[str] = (),
    ) -> None:
        """Join the parts; nothing is asked before `step`.

        Args:
            store: what readers see, and the figures.
            sink: what MongoDB has.
            changes: what it says has changed.
            settings: of a collection, by name.
            read: reads a document as a client of the API does.
            part: of a core that may be used, above 0 and up to 1.
            api: that is asked too, if any.
            listed: collections that are counted by name, however many others there are.
        """
        self.budget = Budget(part)
        comparison = Comparison(
            store,
            sink,
            settings=settings,
            read=read,
            hears=lambda: changes.is_open,
            budget=self.budget,
            listed=listed,
        )
        self.tally, self.suspects = comparison.tally, comparison.suspects
        self._comparison = comparison
        self._store = store
        self._changes = changes
        self._lease = store.lease(keys.CONSISTENCY_LEASE, LEASE_MS)
        self._changed = Changed(changes, comparison)
        self._pending = PendingWalk(store, comparison)
        self.api = None if api is None else ApiLooks(api, comparison, store)
        self.walk = Walk(store, comparison)
        self._leads = self.has_led = self._has_looked = self._told_wait = False
        self.failure = ""
        # Who does not look for a moment is no news: the next step comes after some seconds.
        self._outages = OutageLog(log, quiet_s=LOGGED_S, patience_s=LOGGED_S)
        self._flush_at = self._poll_at = self._walk_at = self._check_at = 0.0

    @property
    def hears(self) -> bool:
        """Whether changes in MongoDB are heard."""
        return self._changes.is_open

    def run(self, stop: threading.Event) -> None:
        """Observe until `stop` is set."""
        try:
            while not stop.wait(self.step()):
                pass
        finally:
            self.close()

    def close(self) -> None:
        """Note what was counted, and let another one observe."""
        self._changes.close()
        if self.api is not None:
            self.api.close()
        leads, self._leads = self._leads, False
        try:
            self.tally.flush(self._store)  # the API may have been asked while another one observes
            if leads:
                self._lease.release()
        except UnavailableError as error:
            log.info("the last looks are not counted: %s", error)

    def step(self) -> float:
        """Do what is due, if nobody else observes, and say how long to wait then, seconds. It does not raise."""
        try:
            if (owed_s := self.budget.wait_s()) >= FLUSH_S:
                return self._wait(owed_s)
            self._told_wait = False
            if not self._lead():
                return self._ask_api() or WAIT_S
            self._work()
            self._ask_api()
            self._has_looked = True
        except (WritebehindError, PyMongoError) as error:
            self.failure = str(error)
            if not getattr(error, "logged", False):
                self._outages.note("consistency", f"nobody looks what readers see: {error}")
            return self._failed()
        except Exception:
            log.exception("the observer failed, and goes on", extra=FAULT)
            self.failure = "a fault of the observer: see the log"
            return self._failed()
        now = time.monotonic()
        due = [self._flush_at, self._poll_at, self._walk_at, self.suspects.next_at() or now + POLL_S]
        return max(self._wait_s(), min(due) - now, 0.0)

    def _wait_s(self) -> float:
        """The time to wait until this is called again, seconds, with what was used in mind."""
        return min(KEEP_S, self.budget.wait_s())

    def _wait(self, owed_s: float) -> float:
        """Keep the right to observe while what was used is waited for; the log says why where that takes long.

        Raises:
            WritebehindError: a server does not answer, or Redis is not as the settings say.
        """
        if owed_s >= LOGGED_S and not self._told_wait:
            self._told_wait = True
            log.warning(
                "nobody looks what readers see for %.0f s: the last looks took much CPU, and "
                "consistency_cpu_percent allows the observer no more of a core",
                owed_s,
            )
        if self._leads:
            self._lead()
        return min(KEEP_S, owed_s)

    def _ask_api(self) -> float | None:
        """See what the API answers, if one was named; the time until that is wanted again, seconds."""
        if self.api is None:
            return None
        self.api.look()
        return POLL_S

    def _failed(self) -> float:
        """Let the time not count in which nobody can look."""
        self._has_looked = False
        self.suspects.begin_anew(time.monotonic())
        return max(self._wait_s(), FAILED_S)

    def _lead(self) -> bool:
        """Take or keep the right to observe; and note what was counted."""
        now = time.monotonic()
        if self._leads and now < self._flush_at:
            return True
        if not self._lease.take():
            if self._leads:  # stopped for long, and succeeded
                self._forget()
            self._leads = self._has_looked = False
            return False
        self._leads = self.has_led = True
        self._flush_at = now + FLUSH_S
        if now >= self._check_at:
            self._store.check_recorded()
            self._check_at = now + CHECK_S
        self.tally.flush(self._store)
        if self._has_looked:
            self._store.samples.note_observed()
        return True

    def _forget(self) -> None:
        """Know nothing any more: another one looks, and changes are not heard meanwhile."""
        self.suspects.clear()
        self._changes.close(again_s=0)
        self._comparison.verified.clear()

    def _work(self) -> None:
        self._comparison.look_again()
        if time.monotonic() >= self._poll_at:
            self._poll_at = time.monotonic() + POLL_S
            self._changed.look()
            if not self.suspects.is_full:
                self._pending.step()
        if time.monotonic() >= self._walk_at and not self.suspects.is_full:
            began = time.monotonic()
            self._walk_at = began + self.walk.step()
