"""Events that no process sees of itself: that a worker or beat is frozen, or a command has changed letters."""

from __future__ import annotations

import logging
import time
from typing import Final

from writebehind.conditions import Remedy
from writebehind.plurals import counted
from writebehind.redis.shared.totals import Totals
from writebehind.redis.shared.workers import ENDED_FOR_S, Crew, SilentWorker
from writebehind.settings.names import FLUSH_QUEUE

log = logging.getLogger(__name__)

#: A worker that is silent for longer when this process begins to look was named by another one, seconds.
NAMED_S: Final = 60.0
#: So long others may take to begin with what one left that had ended before this process looked, seconds.
SUCCEEDED_S: Final = 30.0
#: So many workers that have fallen silent together are named.
MOST_NAMED: Final = 5
#: Events of what is done with dead letters, by the total that counts it.
_OF_LETTERS: Final = {"replayed": "letters_replayed", "discarded": "letters_discarded"}

#: A worker's name, and whether its process is gone.
_Key = tuple[str, bool]


class EventLog:
    """Logs each event once, by what one look has that the one before had not. For one thread."""

    def __init__(self) -> None:
        """Know nothing before the first look."""
        self.begin_anew()

    def begin_anew(self) -> None:
        """Have another process log what comes next."""
        self._quiet: dict[_Key, SilentWorker] | None = None
        self._left_behind: set[_Key] = set()
        self._left_until_s = 0.0
        self._beat_is_away = self._exporter_is_away = self._listener_is_away = False
        self._totals: Totals | None = None

    def look_at_workers(self, crew: Crew) -> None:
        """Log which workers have fallen silent since, which have ended without a word, and which are back."""
        # By name, and by whether its process is gone: one that is killed while it is frozen is told of again.
        quiet = {(one.worker, False): one for one in crew.silent}
        quiet |= {(one.worker, True): one for one in crew.ended if one.seconds_ago <= ENDED_FOR_S}
        before = self._quiet
        if before is None:
            before = {key: one for key, one in quiet.items() if one.seconds_ago > NAMED_S}
            self._left_behind = {key for key in quiet if key[1]} - before.keys()
            self._left_until_s = time.monotonic() + SUCCEEDED_S
        before = self._succeed(quiet, before, crew)
        fallen = {key: one for key, one in quiet.items() if key not in before}
        for (_, has_ended), one in list(fallen.items())[:MOST_NAMED]:
            _tell_quiet(one, [queue for queue in one.queues if not crew.consumers.get(queue)], has_ended=has_ended)
        if len(fallen) > MOST_NAMED:
            more = counted(len(fallen) - MOST_NAMED, "more worker has", "more workers have")
            log.warning("%s done nothing for long: see writebehind doctor", more, extra={"event": "worker_silent"})
        for (name, _), one in before.items():
            if name in crew.alive:
                told = {"event": "worker_back", "worker": name, "queues": ",".join(one.queues)}
                log.warning("worker %s is at work again", name, extra=told)
        self._quiet = quiet

    def _succeed(
        self, quiet: dict[_Key, SilentWorker], before: dict[_Key, SilentWorker], crew: Crew
    ) -> dict[_Key, SilentWorker]:
        """The workers that are known, with those whose queues others have taken over after a new start.

        While they may still do so, those that were left behind are taken out of `quiet`.
        """
        left = {key: quiet[key] for key in self._left_behind & quiet.keys()}
        succeeded = {key: one for key, one in left.items() if crew.are_consumed(one.queues)}
        self._left_behind = left.keys() - succeeded.keys() if time.monotonic() < self._left_until_s else set()
        for key in self._left_behind:
            del quiet[key]
        return before | succeeded

    def look_at_beat(self, remedy: Remedy | None, *, is_at_work: bool) -> None:
        """Log that sweeps are missing, as a remedy says, or come again; a beat that is excused is not back."""
        before = self._beat_is_away
        self._beat_is_away = remedy is not None or (before and not is_at_work)
        if remedy is not None and not before:
            log.warning("beat: %s; %s", remedy.found, remedy.advice, extra={"event": "beat_silent"})
        elif before and not self._beat_is_away:
            log.warning("sweeps run again, so beat is at work", extra={"event": "beat_back"})

    def look_at_exporter(self, remedy: Remedy | None, *, is_at_work: bool) -> None:
        """Log that nobody records the history any more, as a remedy says, or somebody does again, as of beat."""
        before = self._exporter_is_away
        self._exporter_is_away = remedy is not None or (before and not is_at_work)
        if remedy is not None and not before:
            log.warning("exporter: %s; %s", remedy.found, remedy.advice, extra={"event": "exporter_silent"})
        elif before and not self._exporter_is_away:
            log.warning("the exporter records the history again", extra={"event": "exporter_back"})

    def look_at_listener(self, remedy: Remedy | None, *, is_at_work: bool) -> None:
        """Log that a listener is stopped or shows no sign of life, as a remedy says, or does again, as of beat."""
        before = self._listener_is_away
        self._listener_is_away = remedy is not None or (before and not is_at_work)
        if remedy is not None and not before:
            log.warning("listener: %s; %s", remedy.found, remedy.advice, extra={"event": "listener_silent"})
        elif before and not self._listener_is_away:
            log.warning("the listener shows signs of life again", extra={"event": "listener_back"})

    def look_at_letters(self, totals: Totals) -> None:
        """Log how many dead letters were replayed and discarded since, by whomever."""
        before, self._totals = self._totals, totals
        if before is None or before.missing != totals.missing:  # of a server that is away, or back
            return
        for name, event in _OF_LETTERS.items():
            if (count := totals.by_name.get(name, 0) - before.by_name.get(name, 0)) > 0:
                what = counted(count, "dead letter was", "dead letters were")
                log.warning("%s %s", what, name, extra={"event": event, "count": count})


def _tell_quiet(one: SilentWorker, left: list[str], *, has_ended: bool) -> None:
    """Log that a worker is silent, or has ended, and which of its queues nobody consumes now."""
    others = "others do its work"
    if left:
        others = f"nobody else takes tasks of {', '.join(left)}"
    if FLUSH_QUEUE in left:
        others += ", so nothing is persisted"
    does_nothing = (
        f"has done nothing for {one.seconds_ago:.0f} s: it is frozen, or has lost its broker or its machine"
    )
    if one.is_stopped:
        does_nothing = f"is stopped: `kill -CONT {one.pid}` on this machine lets it go on"
    log.log(
        logging.ERROR if FLUSH_QUEUE in left else logging.WARNING,
        "worker %s %s; %s: see its log, and writebehind doctor",
        one.worker,
        "has ended without a word: it was killed" if has_ended else does_nothing,
        others,
        extra={
            "event": "worker_ended" if has_ended else "worker_silent",
            "worker": one.worker,
            "queues": ",".join(one.queues),
            "pid": one.pid,
        },
    )
