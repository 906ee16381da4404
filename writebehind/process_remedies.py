"""Remedies for processes: what to do about beat, a listener, an exporter or workers that are missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from writebehind.conditions import Remedy, remedy

_FLUSH: Final = "flush"
_MAINTENANCE: Final = "maintenance"
_SWEEP: Final = "sweep"
_NO_ANSWER: Final = "MongoDB does not answer: "
#: Without a listener that hears of MongoDB.
LATE: Final = "until then changes of others show late"
#: An exporter that has recorded something within so long knows what there is now, seconds.
_RECORDS_S: Final = 15.0
#: Loss while nobody consumes a queue.
WITHOUT: Final = {
    _FLUSH: "nothing is persisted, and what is acknowledged waits in Redis",
    "refresh": "stale documents stay so",
    _MAINTENANCE: "what is lost is not found, and nothing is reconciled or warmed",
}
#: From here on a listener that shows no sign of life is taken for one that does not run, seconds.
LISTENER_SILENT_S: Final = 15.0
#: A listener notes each second that it lives, and hears of MongoDB as often. After so long it may hang, seconds.
LISTENER_UNHEARD_S: Final = 3.0


def of_beat(beat: Mapping[str, Any], consumers: Mapping[str, Any] | None) -> Remedy:
    """The remedy for sweeps that are missing: beat asks for them, and a worker carries them out."""
    swept_s = beat["swept_seconds_ago"]
    found = "no sweep has run yet" if swept_s is None else f"the last sweep was {swept_s:.0f} s ago"
    without = "without sweeps lost messages stay lost"
    if beat["is_stopped"]:
        return remedy("beat", "beat", f"{found}: {_stopped(beat)}", f"{_resume(beat)}; {without}")
    asked_s = beat["asked_seconds_ago"]
    asks = asked_s is not None and swept_s is not None and 2 * asked_s < swept_s
    if consumers and not consumers.get(_MAINTENANCE):
        whom = "the maintenance worker" if asks else "beat and the maintenance worker"
        stopped = "or let one go on that is stopped, " if asks else ""
        advice = f"start {whom} as in the Procfile, {stopped}as {without}"
        return remedy("beat", "beat", f"{found}, and no worker consumes {_MAINTENANCE}", advice)
    if asks:
        found = f"{found}: beat asked for one {asked_s:.0f} s ago, and no worker carries it out"
        return remedy("beat", "beat", found, f"{_see_workers(consumers)}; {without}")
    if beat["pid"] is None:
        return remedy("beat", "beat", found, f"start beat as in the Procfile: {without}")
    advice = (
        f"look at process {beat['pid']} on {_host(beat)}, which was beat: `kill -CONT {beat['pid']}` lets a "
        f"frozen one go on; one that has ended is to be started anew, as in the Procfile: {without}"
    )
    return remedy("beat", "beat", found, advice)


def of_tasks(periodic: Mapping[str, Mapping[str, Any]], consumers: Mapping[str, Any] | None) -> Iterator[Remedy]:
    """The remedies for periodic tasks that are missing though sweeps are not, so that beat is at work."""
    for name, run in periodic.items():
        if run["is_late"] and name != _SWEEP:  # of which `of_beat` tells
            found = f"it last ended {run['seconds_ago']:.0f} s ago, and is to run every {run['every_seconds']:g} s"
            advice = f"sweeps run, so beat is at work: {_see_workers(consumers)}"
            yield remedy("task", f"task {name}", found, advice)


def _see_workers(consumers: Mapping[str, Any] | None) -> str:
    names = ", ".join((consumers or {}).get(_MAINTENANCE, ())) or "the workers"
    return (
        f"look at the log of {names}, and whether messages wait in the queue {_MAINTENANCE}: a worker whose pool "
        "is stuck is to be started anew, one that has too much to do wants another one beside it"
    )


def of_listener(listener: Mapping[str, Any]) -> Remedy:
    """The remedy for a listener that notes no more that it lives."""
    alive_s, pid = listener["alive_seconds_ago"], listener["pid"]
    of = f"{listener['leader']} (process {pid})" if pid else listener["leader"]
    resume = f"`kill -CONT {pid or 'PID'}` on its host lets"
    start = "start `writebehind listen` as in the Procfile: until then changes of others show when entries expire"
    if listener["is_stopped"]:
        found = f"the listener {of} is stopped, and has shown no sign of life for {alive_s:.0f} s"
        advice = f"{resume} it go on; {LATE}"
    elif alive_s > LISTENER_SILENT_S:
        found = f"silent for {alive_s:.0f} s, so it does not run, or is frozen"
        advice = f"look for {of}: {resume} a frozen one go on; {start}"
    else:
        found = f"the listener {of} has shown no sign of life for {alive_s:.0f} s: frozen, busy, or just ended"
        advice = f"look at that process: {resume} a frozen one go on; {LATE}"
    return remedy("listener", "listener", found, advice)


def is_unanswered(listener: Mapping[str, Any]) -> bool:
    """Whether a listener that runs, of which this is the status, waits for MongoDB, which is quick otherwise."""
    heard_s = listener["heard_seconds_ago"]
    return heard_s is None or heard_s - listener["alive_seconds_ago"] > LISTENER_UNHEARD_S


def of_unheard(listener: Mapping[str, Any]) -> Remedy | None:
    """The remedy for a listener that runs and does not listen; `None` for one that does."""
    error, heard_s = listener["error"] or "", listener["heard_seconds_ago"]
    is_away = error.startswith(_NO_ANSWER)
    if not (error or is_unanswered(listener)):
        return None
    if error and not is_away:
        found = f"the listener runs and cannot listen: {error}"
        return remedy("listener-unheard", "listener", found, f"see to it: {LATE}")
    since = "" if heard_s is None else f", for {heard_s:.0f} s"
    reason = error.removeprefix(_NO_ANSWER)
    found = f"the listener runs and MongoDB does not answer it{since}{f': {reason}' if reason else ''}"
    return remedy("listener-unheard", "listener", found, f"see to MongoDB: {LATE}")


def of_exporter(exporter: Mapping[str, Any]) -> Remedy:
    """The remedy for an exporter that records nothing."""
    found = f"it has recorded nothing for {exporter['recorded_seconds_ago'] or 0:.0f} s"
    lost = "until then the history, what foretells from it, and what readers see are not known"
    if exporter["is_stopped"]:
        return remedy("exporter", "exporter", f"{found}: {_stopped(exporter)}", f"{_resume(exporter)}; {lost}")
    pid = exporter["pid"] or "PID"
    advice = (
        f"it has ended, is frozen, or cannot reach Redis: `kill -CONT {pid}` on {_host(exporter)} lets a frozen "
        f"one go on; else look at its log and start it anew; {lost}"
    )
    return remedy("exporter", "exporter", found, advice)


def _stopped(process: Mapping[str, Any]) -> str:
    return f"process {process['pid']} on {_host(process)} is stopped"


def _resume(process: Mapping[str, Any]) -> str:
    return f"`kill -CONT {process['pid']}` lets it go on"


def _host(process: Mapping[str, Any]) -> str:
    return process["host"] or "its host"


def of_worker(silent: Mapping[str, Any]) -> Remedy:
    """The remedy for a silent worker, as a status has it."""
    name, pid, for_s = silent["worker"], silent["pid"], f"{silent['seconds_ago']:.0f} s"
    of = f", which consumed {', '.join(silent['queues'])}," if silent["queues"] else ""
    host = name.rpartition("@")[2] or "its machine"
    process = f"process {pid} on {host}" if pid else f"its process on {host}"
    if silent["is_stopped"]:
        found = f"it{of} is stopped: {process} has done nothing for {for_s}"
        advice = f"`kill -CONT {pid}` on {host} lets it go on; or end it (`kill -KILL {pid}`) and start it anew"
    else:
        found = f"it{of} has done nothing for {for_s}: {process}"
        advice = (
            "it is frozen, cut off from its broker, stuck, or was killed: "
            f"`kill -CONT {pid or 'PID'}` on {host} lets a frozen one go on; else look at its log and start it "
            "anew. One that stays away under its name is forgotten after a day"
        )
    return remedy("worker", f"worker {name}", found, advice)


def is_broker_mute(figures: Mapping[str, Any]) -> bool:
    """Whether the exporter records, and the broker has told it of no queue lately: so it may be away."""
    recorded_s, broker = figures["exporter"] and figures["exporter"]["recorded_seconds_ago"], figures["broker"]
    return bool(broker) and broker["seconds_ago"] is None and recorded_s is not None and recorded_s < _RECORDS_S


def of_queue(queue: str, figures: Mapping[str, Any]) -> Remedy:
    """The remedy for a queue that no worker consumes."""
    found = f"no worker consumes it: {WITHOUT[queue]}"
    start = f"start a worker with -Q {queue}, or add it to one of yours, unless `up` does"
    gone = [one for one in figures["ended_workers"] or () if queue in one["queues"]]
    quiet = [one["worker"] for one in figures["silent_workers"] or () if queue in one["queues"]]
    if gone:
        names = ", ".join(f"{one['worker']} (process {one['pid']})" for one in gone)
        found = f"{found}; {names}, which consumed it, has ended without a word"
    if quiet:
        start = f"see to {', '.join(quiet)}, which consumed it and is silent; or {start}"
    if is_broker_mute(figures):
        found = f"{found}; the broker does not answer the exporter, or has no queue yet"
        start = f"see whether the broker runs, as `writebehind doctor` says: workers go on then; else {start}"
    return remedy("no-worker" if queue == _FLUSH else "queue", f"queue {queue}", found, start)
