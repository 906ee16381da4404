"""Remedies: for what a status shows to be wrong, what to do about it, and where the runbook says more.

`writebehind doctor`, `writebehind status` and the console say the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from writebehind.errors import RedisNotReadyError, RedisUnavailableError
from writebehind.plurals import counted
from writebehind.process_identity import is_stopped, mark

#: The runbook, which has a chapter for each alert.
RUNBOOK: Final = "https://github.com/writebehind/writebehind/tree/main/docs/runbook.md"
_NO_ANSWER: Final = "MongoDB does not answer: "
_RAISE: Final = (
    "raise WRITEBEHIND_MAX_PENDING_PER_PARTITION as far as Redis has memory, and restart the web processes"
)
_GIVE_MEMORY: Final = "give Redis memory (`CONFIG SET maxmemory`): it is what ends first"
_FILED: Final = "the same in its configuration file at its next start"
_RESUME: Final = "`writebehind resume`"
#: Without a listener that hears of MongoDB.
LATE: Final = "until then changes of others show late"
_FLUSH: Final = "flush"
_MAINTENANCE: Final = "maintenance"
_SWEEP: Final = "sweep"
#: From here on a listener that shows no sign of life is taken for one that does not run, seconds.
LISTENER_SILENT_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class Remedy:
    """Something that is wrong, and what to do about it.

    Attributes:
        about: `redis`, `paused`, `mongodb`, `refused`, `backlog`, `beat`, `listener`, `exporter`; `task` or
            `worker` with a name.
        found: what is wrong.
        advice: what to do.
        runbook: the address of the chapter that says more.
    """

    about: str
    found: str
    advice: str
    runbook: str


def remedies(
    figures: Mapping[str, Any],
    *,
    is_stalled: bool,
    is_back: bool,
    could_evict: bool,
    file_fails: bool = False,
    mongodb_pid: int | None = None,
) -> Iterator[Remedy]:
    """Remedies for what is wrong by the figures of a status, the most urgent first.

    Args:
        figures: as `/admin/status` has them.
        is_stalled: whether nothing is persisted though documents are overdue.
        is_back: whether MongoDB was away until just now: workers take up by themselves what waits.
        mongodb_pid: the process of MongoDB, where `writebehind up` runs it here.
        file_fails: whether Redis could not write its append-only file.
        could_evict: whether Redis is full of what MongoDB has too, and evicts nothing.
    """
    if file_fails:
        yield _of_file()
    if figures["paused"] and figures["pending"]:
        yield _paused(figures["paused"])
    is_away = bool(figures["mongodb_error"]) or figures["breaker"] not in {"closed", None}
    if is_away:
        yield _mongodb(figures, mongodb_pid)
    if figures["seconds_until_cap"] == 0:
        yield _refused(figures, could_evict=could_evict)
    silent = figures["silent_workers"] or ()
    if is_stalled and not is_away:
        refuses = figures["mongodb_refuses"]
        yield _refusing(refuses, mongodb_pid) if refuses else _stalled(figures, is_back=is_back)
    elif figures["grows_per_second"] and not is_away:
        yield _outrun(figures)
    for one in silent:
        yield of_worker(one)
    yield from _of_single(figures)


def _of_single(figures: Mapping[str, Any]) -> Iterator[Remedy]:
    """The remedies for processes of which there is one."""
    beat, listener, exporter = figures["beat"], figures["listener"], figures["exporter"]
    if beat and beat["swept_seconds_ago"] is not None and beat["is_silent"]:
        yield of_beat(beat, figures["consumers"])
    elif beat and figures["periodic"]:
        yield from of_tasks(figures["periodic"], figures["consumers"])
    if listener and listener["is_silent"]:
        yield of_listener(listener)
    if exporter and exporter["is_silent"]:
        yield of_exporter(exporter)


def of_beat(beat: Mapping[str, Any], consumers: Mapping[str, Any] | None) -> Remedy:
    """The remedy for sweeps that are missing: beat asks for them, and a worker carries them out."""
    swept_s = beat["swept_seconds_ago"]
    found = "no sweep has run yet" if swept_s is None else f"the last sweep was {swept_s:.0f} s ago"
    without = "without sweeps lost messages stay lost"
    chapter = _chapter("WritebehindSweepLate")
    if beat["is_stopped"]:
        return Remedy("beat", f"{found}: {_stopped(beat)}", f"{_resume(beat)}; {without}", chapter)
    asked_s = beat["asked_seconds_ago"]
    asks = asked_s is not None and swept_s is not None and 2 * asked_s < swept_s
    if consumers and not consumers.get(_MAINTENANCE):
        whom = "the maintenance worker" if asks else "beat and the maintenance worker"
        stopped = "or let one go on that is stopped, " if asks else ""
        advice = f"start {whom} as in the Procfile, {stopped}as {without}"
        return Remedy("beat", f"{found}, and no worker consumes {_MAINTENANCE}", advice, chapter)
    if asks:
        found = f"{found}: beat asked for one {asked_s:.0f} s ago, and no worker carries it out"
        return Remedy("beat", found, f"{_see_workers(consumers)}; {without}", chapter)
    if beat["pid"] is None:
        return Remedy("beat", found, f"start beat as in the Procfile: {without}", chapter)
    advice = (
        f"look at process {beat['pid']} on {_host(beat)}, which was beat: `kill -CONT {beat['pid']}` lets a "
        f"frozen one go on; one that has ended is to be started anew, as in the Procfile: {without}"
    )
    return Remedy("beat", found, advice, chapter)


def of_tasks(periodic: Mapping[str, Mapping[str, Any]], consumers: Mapping[str, Any] | None) -> Iterator[Remedy]:
    """The remedies for periodic tasks that are missing though sweeps are not, so that beat is at work."""
    for name, run in periodic.items():
        if run["is_late"] and name != _SWEEP:  # of which `of_beat` tells
            found = f"it last ended {run['seconds_ago']:.0f} s ago, and is to run every {run['every_seconds']:g} s"
            advice = f"sweeps run, so beat is at work: {_see_workers(consumers)}"
            yield Remedy(f"task {name}", found, advice, _chapter("WritebehindSweepLate"))


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
    return Remedy("listener", found, advice, _chapter("WritebehindListenerSilent"))


def of_exporter(exporter: Mapping[str, Any]) -> Remedy:
    """The remedy for an exporter that records nothing."""
    found = f"it has recorded nothing for {exporter['recorded_seconds_ago'] or 0:.0f} s"
    lost = "until then the history, what foretells from it, and what readers see are not known"
    chapter = _chapter("WritebehindExporterMissing")
    if exporter["is_stopped"]:
        return Remedy("exporter", f"{found}: {_stopped(exporter)}", f"{_resume(exporter)}; {lost}", chapter)
    pid = exporter["pid"] or "PID"
    advice = (
        f"it has ended, is frozen, or cannot reach Redis: `kill -CONT {pid}` on {_host(exporter)} lets a frozen "
        f"one go on; else look at its log and start it anew; {lost}"
    )
    return Remedy("exporter", found, advice, chapter)


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
    return Remedy(f"worker {name}", found, advice, _chapter("WritebehindNoWorker"))


def of_redis(error: RedisUnavailableError, pid: int | None) -> Remedy:
    """The remedy for a Redis that is away.

    Args:
        error: how that was seen.
        pid: its process, where `writebehind up` runs it here.
    """
    if isinstance(error, RedisNotReadyError):
        advice = (
            "it goes on by itself once it has loaded its data, or what it waits for is back: its log says how far "
            "it is; `writebehind doctor` says more"
        )
    elif pid:
        advice = f"{_runs_here(pid)}; start no other in its place, as what is pending is only there"
    else:
        advice = (
            "look on its host whether its process is stopped (`kill -CONT` lets it go on), busy or has ended: "
            "start it with its data, or not at all, as what is pending is only there; `writebehind doctor` says "
            "more"
        )
    return Remedy("redis", error.public, advice, _chapter("WritebehindRedisDown"))


def _of_file() -> Remedy:
    found = "Redis could not write its append-only file, and refuses all writes, also those of workers"
    advice = "make room on its disk, which is full as a rule: it goes on by itself. Its log says what was wrong"
    return Remedy("redis", found, advice, _chapter("WritebehindRedisNotDurable"))


def _runs_here(pid: int) -> str:
    if is_stopped(mark(pid)):
        return f"process {pid} runs here and is stopped: `kill -CONT {pid}` lets it go on"
    return f"process {pid} runs here and is frozen or overloaded: `kill -CONT {pid}` lets a frozen one go on"


def _mongodb(figures: Mapping[str, Any], pid: int | None) -> Remedy:
    reason = figures["mongodb_error"] or figures["breaker_reason"] or f"the breaker is {figures['breaker']}"
    longer = _GIVE_MEMORY if figures["cap"] == "memory" else _RAISE
    advice = (
        f"{_runs_here(pid) if pid else 'bring MongoDB back'}: what waits drains by itself, and nothing has to be "
        f"restarted. If that takes longer than writes are taken for, {longer}"
    )
    return Remedy(
        "mongodb", f"{_NO_ANSWER}{reason.removeprefix(_NO_ANSWER)}", advice, _chapter("WritebehindMongodbDown")
    )


def _refusing(reason: str, pid: int | None) -> Remedy:
    found = f"MongoDB answers, and takes nothing that is written to {reason}"
    advice = (
        "see what its log says: whether its disk is full, and what its user may do. What waits drains by itself, "
        "and no worker has to be restarted"
    )
    if pid:
        advice = (
            f"{advice}. If its disk is full: it is process {pid}, which runs here and does not get over that by "
            f"itself, so make room, then `kill {pid}`, and `writebehind up` starts it anew"
        )
    return Remedy("mongodb", found, advice, _chapter("WritebehindMongodbDown"))


def _paused(pauses: Sequence[Mapping[str, Any]]) -> Remedy:
    found = f"flushing of {', '.join(one['collection'] or 'all collections' for one in pauses)} is paused"
    advice = f"{_RESUME} lets it go on, once MongoDB is to be written to again"
    return Remedy("paused", found, advice, _chapter("WritebehindPaused"))


def _refused(figures: Mapping[str, Any], *, could_evict: bool) -> Remedy:
    caps = figures["caps"]  # not known while their server is away
    if figures["cap"] == "memory":
        part = f"{caps['max_memory_percent']:g} %" if caps else "as much"
        found = f"Redis has used {part} of its memory{'' if caps else ' as it may'}"
        advice = "give Redis memory at once (`CONFIG SET maxmemory`), then see what fills it"
        if could_evict:
            found = f"{found}, much of it with copies of what MongoDB has, and evicts nothing"
            advice = (
                f"evict these: `CONFIG SET maxmemory-policy volatile-lru` makes room at once, and {_FILED}; "
                "what MongoDB does not have yet stays"
            )
        chapter = "WritebehindRedisMemory"
    else:
        most = (
            counted(caps["max_pending_per_partition"], "document") if caps else "as many documents as it may have"
        )
        found = f"a partition has {most} waiting, or more"
        is_paused = any(one["collection"] is None for one in figures["paused"] or ())
        drains = f"{_RESUME}, as flushing is paused," if is_paused else "see to MongoDB and to the workers,"
        advice = f"{drains} so that they drain; to win time, {_RAISE}"
        chapter = "WritebehindWritesRefused"
    return Remedy(
        "refused", f"new documents are refused now with 503, as a cap is met: {found}", advice, _chapter(chapter)
    )


def _stalled(figures: Mapping[str, Any], *, is_back: bool) -> Remedy:
    found = (
        f"nothing is persisted: {counted(figures['pending'], 'document')} pending, of which the oldest is overdue "
        f"for {figures['overdue_seconds']:.0f} s"
    )
    at_work = (figures["consumers"] or {}).get(_FLUSH, [])
    silent = [one["worker"] for one in figures["silent_workers"] or () if _FLUSH in one["queues"]]
    drain = "`writebehind drain` persists it from where you are, and says what refuses it"
    soon = "takes up what waits by itself, within 15 s as a rule: look again then"
    if at_work and is_back:
        advice, chapter = (
            f"MongoDB was away until just now, and {', '.join(at_work)} {soon}",
            "WritebehindPendingOld",
        )
    elif at_work:
        advice, chapter = (
            f"look at the logs of {', '.join(at_work)}, and start them anew; {drain}",
            "WritebehindPendingOld",
        )
    elif figures["partitions_at_work"]:
        advice, chapter = f"somebody is at work, as a worker that starts, and {soon}", "WritebehindNoWorker"
    elif silent:
        advice, chapter = f"let {', '.join(silent)} go on, or start it anew; {drain}", "WritebehindNoWorker"
    else:
        advice, chapter = (
            f"start a worker with -Q {_FLUSH}, as in the Procfile, unless `up` does; {drain}",
            "WritebehindNoWorker",
        )
    return Remedy("backlog", found, advice, _chapter(chapter))


def _outrun(figures: Mapping[str, Any]) -> Remedy:
    advice = (
        "look at what a batch takes and at MongoDB's load: add workers if it has time for more; else clients "
        "have to send less, or writes are refused once a cap is met"
    )
    return Remedy("backlog", outrun(figures) or "", advice, _chapter("WritebehindDrainSlowerThanArrival"))


def outrun(figures: Mapping[str, Any]) -> str | None:
    """By how much more comes than goes; `None` where it does not."""
    if not (grows := figures["grows_per_second"]):
        return None
    goes = figures["flushed_per_second"] or 0.0
    return f"more comes than goes: {grows + goes:.0f} documents in a second, of which {goes:.0f} are persisted"


def _chapter(alert: str) -> str:
    """The address of the chapter about an alert."""
    return f"{RUNBOOK}#{alert.lower()}"
