"""`writebehind status`: how the installation is, in a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Final

import click
import orjson
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from writebehind import Pipeline
from writebehind.cli.columns import columns
from writebehind.cli.consistency import seen
from writebehind.cli.installation import opened
from writebehind.conditions import CONDITIONS, Severity
from writebehind.errors import NoReplicasError, RedisNotReadyError, RedisUnavailableError, WritebehindError
from writebehind.last_known import LATER, AtStake
from writebehind.logs.quoting import printable_line
from writebehind.monitoring.directory import directory_of
from writebehind.operations.running_here import remedies_here, system_here
from writebehind.plurals import counted, size_of
from writebehind.process_remedies import LISTENER_SILENT_S, is_broker_mute, is_unanswered
from writebehind.reading.reader import ratio_of
from writebehind.redis.reach import is_away, told_away
from writebehind.redis.shared.pauses import told as told_pauses
from writebehind.redis.shared.persisted import RATE_S
from writebehind.remedies import outrun, told_refusing
from writebehind.settings.urls import redacted
from writebehind.tallies.directory import Directory
from writebehind.times import duration

#: Pending documents that are older than this show that they are not persisted in time, seconds.
_LATE_S = 30.0
#: How long the API of the system that runs here has to answer, seconds.
API_PATIENCE_S: Final = 2.0
#: What remedies are about that no row shows.
_OF_NO_ROW: Final = {"api", "up", "data directory"}
#: Totals of what becomes of writes.
_BECAME = ("persisted", "deleted", "coalesced", "buried", "replayed", "discarded")


#: The figures of a status, or why there are none.
Figures = dict[str, Any] | WritebehindError


@click.command()
@click.option("--watch", is_flag=True, help="Show it again and again, until Ctrl-C.")
@click.option(
    "--interval",
    type=click.FloatRange(min=0.1),
    default=2.0,
    show_default=True,
    help="Seconds between two looks; with --watch.",
)
@click.option("--json", "as_json", is_flag=True, help="One line of JSON for each look, as `/admin/status` has it.")
def status(watch: bool, interval: float, as_json: bool) -> None:
    """Show what is pending, and who is at work on it.

    The exit status is that of the worst that it shows, as of `writebehind doctor`: 0 all is well, 1 a warning, 2
    something critical, as a Redis that does not answer, or settings that do not fit it. Where one of several
    servers does not answer, the figures are of the others. While Redis is away, what was only there is told as
    processes of this host have seen it last: in JSON under `last_known`.
    """
    with opened() as pipeline:
        with suppress(OSError):  # there is no directory for temporary files
            pipeline.keep_in(pipeline.settings.state_dir or directory_of(pipeline.settings))

        def look() -> dict[str, Any]:
            with ThreadPoolExecutor(1, thread_name_prefix="here") as beside:
                here = beside.submit(_to_do_here, pipeline)
                pipeline.store.check_answered()
                figures = pipeline.status()
                to_do = [*figures["to_do"], *here.result()]
                grave = Severity.CRITICAL.name.lower()
                if figures["hit_ratio"] is None:
                    figures["hit_ratio"] = _hit_ratio_here(pipeline)
                return {**figures, "to_do": sorted(to_do, key=lambda one: one["severity"] != grave)}

        if not watch:
            try:
                found = look()
            except RedisUnavailableError as error:
                if is_away(error):
                    _print(error, pipeline, as_json=as_json)
                error.exit_status = Severity.CRITICAL
                raise
            _print(found, pipeline, as_json=as_json)
            sys.exit(max((CONDITIONS[one["condition"]].severity for one in found["to_do"]), default=0))
        elif as_json:
            for figures in _again(look, interval):
                click.echo(_dumped(figures, pipeline))
        else:
            with Live(console=Console(), auto_refresh=False, screen=False) as live:
                for figures in _again(look, interval):
                    live.update(_rendered(figures, pipeline), refresh=True)


def _to_do_here(pipeline: Pipeline) -> list[dict[str, str]]:
    """Remedies for the system that runs in this directory; none where none does."""
    state = system_here(pipeline.settings)
    if state is None:
        return []
    return [asdict(one) for one in remedies_here(pipeline.settings, state, timeout_s=API_PATIENCE_S)]


def _hit_ratio_here(pipeline: Pipeline) -> float | None:
    """That of the processes of this host, by what these have counted, as this one reads nothing; else `None`."""
    try:
        return ratio_of(Directory(directory_of(pipeline.settings)).read())
    except OSError:
        return None


def _rendered(figures: Figures, pipeline: Pipeline) -> RenderableType:
    """The same for a terminal."""
    if isinstance(figures, RedisUnavailableError) and is_away(figures):
        to_do = pipeline.status_without_redis(figures)["to_do"]
        return without_redis(pipeline.last_known.latest(), to_do, figures)
    return shown(figures)


def without_redis(
    last_known: AtStake | None, to_do: Sequence[Mapping[str, str]], error: RedisUnavailableError
) -> RenderableType:
    """Figures last known of a Redis that fails with an error, and what to do, for a terminal."""
    known = last_known or "nobody on this host has seen what is only there"
    both = any(one["about"] == "mongodb" for one in to_do)
    who = "Redis and MongoDB are away" if both else "Redis is away"
    if isinstance(error, RedisNotReadyError):
        alone = isinstance(error, NoReplicasError)
        who = "Redis takes no writes, as too few replicas keep up" if alone else "Redis cannot serve now"
        who += ", and MongoDB is away" if both else ""
    lines = (_told(one, is_in_no_row=True) for one in to_do)
    return Group(Text(f"{who}; {known}", "bold red"), *(Text(one, "bold") for one in lines))


def shown(figures: Figures) -> RenderableType:
    """The figures of a status, or why there are none, for a terminal."""
    if isinstance(figures, WritebehindError):
        return Text(f"no status: {figures}", "bold red")
    table = Table.grid(*columns("", ""), padding=(0, 2))
    for name, value, good in _rows(figures):
        table.add_row(Text(name, "bold"), Text(printable_line(value), "" if good else "bold red"))
    for one in sorted(figures["to_do"], key=lambda one: -CONDITIONS[one["condition"]].severity):
        table.add_row(Text("do", "bold"), Text(printable_line(f"{one['severity']}: {_told(one)}"), "bold"))
    return Group(table, *_tasks(figures["periodic"] or {}))


def _told(remedy: Mapping[str, str], *, is_in_no_row: bool = False) -> str:
    """A remedy in one line, with what is wrong where no row shows that."""
    found = f"{remedy['found']}: " if is_in_no_row or remedy["about"] in _OF_NO_ROW else ""
    return redacted(f"{remedy['about']}: {found}{remedy['advice']}; more at {remedy['runbook']}")


def _print(figures: Figures, pipeline: Pipeline, *, as_json: bool) -> None:
    if as_json:
        click.echo(_dumped(figures, pipeline))
    else:
        Console().print(_rendered(figures, pipeline), soft_wrap=isinstance(figures, WritebehindError))


def _dumped(figures: Figures, pipeline: Pipeline) -> bytes:
    if not isinstance(figures, WritebehindError):
        return orjson.dumps(figures)
    more = pipeline.status_without_redis(figures) if isinstance(figures, RedisUnavailableError) else {}
    return orjson.dumps({"error": str(figures), "last_known": None, "to_do": [], **more})


def _again(look: Callable[[], dict[str, Any]], interval_s: float) -> Iterator[Figures]:
    """A look every `interval_s` seconds, until Ctrl-C. A Redis that does not answer may answer the next one."""
    try:
        while True:
            try:
                yield look()
            except WritebehindError as error:
                yield error
            time.sleep(interval_s)
    except KeyboardInterrupt:
        return


def _rows(figures: Mapping[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """The rows: name, value, and whether that is good."""
    if away := {one["server"]: one["partitions"] for one in figures["away"]}:
        yield "partial", f"{told_away(away)}: what these have is in no figure", False
    for one in figures["lost_data"] or ():
        yield "data lost", _lost(one), False
    if figures["lost_keys"]:
        yield "keys lost", "Redis has no API keys any more: `writebehind keys create` makes the first one", False
    if pauses := figures["paused"]:
        yield "paused", f"{told_pauses(pauses)}: `writebehind resume` ends it", False
    rows = sorted(_ROWS, key=lambda one: one[0] != "refused") if figures["redis_refuses"] else _ROWS
    for name, needed, row in rows:
        if needed in figures["unknown"]:
            yield name, "not known while that server does not answer", False
        else:
            yield name, *row(figures)


def _lost(one: Mapping[str, Any]) -> str:
    """The documents that were lost with the data of Redis."""
    at_stake = counted(one["pending"] + one["dead_letters"], "document")
    return f"at least {at_stake} that were only in Redis at {one['at']}, in data that is gone; {LATER}"


Row = tuple[str, bool]


def _at_stake(figures: Mapping[str, Any]) -> Row:
    at_stake = counted(figures["pending"] + figures["dead_letters"], "document")
    return f"{at_stake}: pending ones and dead letters, which a loss of Redis takes now", True


def _pending(figures: Mapping[str, Any]) -> Row:
    late = figures["oldest_pending_seconds"]
    return f"{counted(figures['pending'], 'document')}, the oldest for {duration(late)}", late < _LATE_S


def _dead(figures: Mapping[str, Any]) -> Row:
    dead = figures["dead_letters_by_collection"]
    of = f": {', '.join(f'{name} {count}' for name, count in dead.items())}" if dead else ""
    return f"{figures['dead_letters']}{of}", not figures["dead_letters"]


def _mongodb(figures: Mapping[str, Any]) -> Row:
    error, refuses = figures["mongodb_error"], figures["mongodb_refuses"]  # known before the breaker opens
    reason = f": {error}; see writebehind doctor" if error else ""
    if refuses and not error:
        reason = f", and nothing that is written is taken: {refuses}"
    return f"breaker {figures['breaker']}{reason}", figures["breaker"] == "closed" and not (error or refuses)


def _workers(figures: Mapping[str, Any]) -> Row:
    workers = figures["workers"]
    busy = "".join(f"; {one['worker']} is busy for {duration(one['seconds'])}" for one in figures["busy_workers"])
    silent = "".join(
        f"; {one['worker']}{_process(one)} has done nothing for {duration(one['seconds_ago'])}"
        f"{', and is stopped' if one['is_stopped'] else ''}"
        for one in figures["silent_workers"]
    )
    at_work = str(workers) if workers else _without_workers(figures["partitions_at_work"])
    ended = "".join(
        f"; {one['worker']} has ended without a word, {duration(one['seconds_ago'])} ago"
        for one in figures["ended_workers"]
    )
    awaited = _names(figures["awaited_workers"])
    is_refused = figures["heartbeats_refused"]
    if not workers and awaited:
        at_work = "not known" if is_refused else "none yet"
    why = "Redis refuses to record heartbeats" if is_refused else "Redis was away until just now"
    waits = f"; {why}, and {awaited} is waited for" if awaited else ""
    return f"{at_work}{busy}{silent}{waits}{ended}", bool(workers or awaited) and not silent


def _names(workers: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(one["worker"] for one in workers)


def _without_workers(partitions: int) -> str:
    """Words for the one that persists where no worker is at work."""
    if partitions:
        return f"none, but a drain, or a library, flushes {counted(partitions, 'partition')}"
    return "none: nobody persists what is pending"


def _process(silent: Mapping[str, Any]) -> str:
    return f" (process {silent['pid']})" if silent["pid"] else ""


def _queues(figures: Mapping[str, Any]) -> Row:
    unconsumed = ", ".join(figures["unconsumed"])
    consumed = f"no worker consumes {unconsumed}" if unconsumed else "each has a worker"
    if (awaited := figures["awaited_workers"]) and not unconsumed:
        consumed = f"waited for: {_names(awaited)}"
    elif figures["heartbeats_refused"] and not unconsumed:
        consumed = "not known: Redis refuses to record heartbeats"
    away = (
        "; the broker does not answer the exporter, or has no queue yet"
        if unconsumed and is_broker_mute(figures)
        else ""
    )
    return f"{consumed}{away}{_waiting(figures['broker'])}", not unconsumed


def _writes(figures: Mapping[str, Any]) -> Row:
    """The writes since the first start, by what became of them."""
    totals = figures["totals"]
    became = ", ".join(f"{totals[name]} {name}" for name in _BECAME if totals[name])
    return f"{totals['acknowledged']} acknowledged{': ' if became else ''}{became}", True


def _reads(figures: Mapping[str, Any]) -> Row:
    """The reads of this host's processes, as far as it is known where these count."""
    if (ratio := figures["hit_ratio"]) is not None:
        return f"{ratio:.0%} of those of this host's processes were answered by Redis", True
    return (
        "none counted here: where there are any, look where `up` runs, or with its WRITEBEHIND_METRICS_DIR",
        True,
    )


def _waiting(broker: Mapping[str, Any] | None) -> str:
    """The messages that wait in queues, where somebody has looked."""
    queues = broker["queues"] if broker else {}
    waiting = ", ".join(f"{name} {count}" for name, count in queues.items() if count)
    return f"; messages wait: {waiting}" if waiting else ""


def _safe(figures: Mapping[str, Any]) -> Row:
    """The time until MongoDB has everything that is acknowledged by now."""
    until_s, size = figures["seconds_until_safe"], figures["pending_bytes"]
    waits = f"about {size_of(size)} wait"
    if figures["safe"]:
        return "all is in MongoDB", True
    lost = sum(one["pending"] + one["dead_letters"] for one in figures["lost_data"] or ())
    if lost and not (figures["pending"] or figures["dead_letters"]):
        return f"what is there is safe; {counted(lost, 'document was', 'documents were')} lost, see above", False
    if until_s is not None:
        more = outrun(figures)
        return f"in about {duration(until_s)}; {waits}{f'; {more}' if more else ''}", not more
    drained_s = figures["seconds_until_drained"]
    if drained_s is None:
        return f"nobody knows when: {figures['not_safe_because']}; {waits}", False
    drained = f"; the rest in about {duration(drained_s)}, {waits}" if drained_s else ""
    return f"never by waiting: {figures['not_safe_because']}{drained}", False


def _refused(figures: Mapping[str, Any]) -> Row:
    """The time until new documents are refused, if all goes on as it does."""
    until_s = figures["seconds_until_cap"]
    if words := figures["redis_refuses"]:
        part = told_refusing(figures["refusing"], figures["partitions"])
        return f"{f'writes to {part},' if part else 'all writes'} now, by Redis: {words}", False
    if until_s is None:
        return "nothing within an hour", True
    what = {"pending": "too much is pending", "memory": "Redis is short of memory"}[figures["cap"]]
    if until_s:
        return f"in about {duration(until_s)}: {what}", False
    full, every = len(figures["full_partitions"] or ()), figures["partitions"]
    where = f" in {full} of {counted(every, 'partition')}" if figures["cap"] == "pending" and full else ""
    return f"new documents{where} now: {what}", False


def _caps(figures: Mapping[str, Any]) -> Row:
    """The caps from which they are refused."""
    caps = figures["caps"]
    told = f"{caps['max_pending_per_partition']} a partition, {caps['max_memory_percent']:g} % of memory"
    if caps["differ"]:
        return f"{told}: the lowest, as processes differ", False
    return f"{told}{'' if caps['told_seconds_ago'] is not None else ', as set here: no process tells'}", True


def _beat(figures: Mapping[str, Any]) -> Row:
    """The last sweep, which beat asks for."""
    beat = figures["beat"]
    swept_s = beat["swept_seconds_ago"]
    found = "no sweep has run yet" if swept_s is None else f"the last sweep was {duration(swept_s)} ago"
    stopped = f"process {beat['pid']} is stopped; " if beat["is_stopped"] else ""
    return f"{stopped}{found}", all(one["about"] != "beat" for one in figures["to_do"])


def _exporter(exporter: Mapping[str, Any]) -> Row:
    recorded_s = exporter["recorded_seconds_ago"]
    if recorded_s is None:
        return "none has ever run: nobody records the last hour", True
    silent = exporter["is_silent"]
    if exporter["is_stopped"]:
        return f"process {exporter['pid']} has recorded nothing for {duration(recorded_s)}, and is stopped", False
    return (
        f"{'silent for' if silent else 'recorded the history'} {duration(recorded_s)}{'' if silent else ' ago'}",
        not silent,
    )


def _listener(listener: Mapping[str, Any] | None) -> Row:
    if listener is None:
        return "none has ever run: readers may see what others changed late", False
    seen = f"{counted(listener['events'], 'change')} seen"
    heard_s = listener["heard_seconds_ago"]
    heard = "" if heard_s is None else f", last heard of MongoDB {duration(heard_s)} ago"
    if listener["is_silent"]:
        return f"{_frozen(listener)}, {seen}{heard}", False
    if listener["error"]:
        return f"not listening, {seen}{heard}: {listener['error']}", False
    if is_unanswered(listener):
        since = "yet" if heard_s is None else f"for {duration(heard_s)}"
        return f"MongoDB has not answered it {since}, {seen}", False
    return f"{duration(listener['lag_s'])} behind MongoDB, {seen}", True


def _frozen(listener: Mapping[str, Any]) -> str:
    """The state of a listener that gives no sign of life."""
    alive_s = listener["alive_seconds_ago"]
    if listener["is_stopped"]:
        return f"stopped: `kill -CONT {listener['pid']}` lets it go on"
    if alive_s > LISTENER_SILENT_S:
        return f"not running, as it is silent for {duration(alive_s)}"
    return f"no sign of life for {duration(alive_s)}: frozen, or just ended"


def _consistency(found: Mapping[str, Any]) -> Row:
    checked, equal = found["checked"], found["equal"]
    if found["ratio"] is None:
        return "nothing compared yet", True
    return f"{equal} of {counted(checked, 'cached document')} as in MongoDB", equal == checked


def _tasks(periodic: Mapping[str, Mapping[str, Any]]) -> Iterator[RenderableType]:
    """The last runs of the periodic tasks."""
    if not periodic:
        return
    table = Table(*columns("task", "ended", "took", "outcome"), box=None, padding=(0, 2, 0, 0))
    for name, run in periodic.items():
        done, good = _done(run)
        table.add_row(
            Text(name),
            Text(f"{duration(run['seconds_ago'])} ago", "red" if run["is_late"] else ""),
            Text(f"{run['seconds']:.2f} s"),
            Text(printable_line(done), "" if good else "red"),
        )
    yield Text()
    yield table


def _done(run: Mapping[str, Any]) -> tuple[str, bool]:
    """Outcome of a run in words, or why it ended early, and whether it is well; its time stands elsewhere."""
    if early := run["error"] or run["outcome"].get("stopped"):
        return str(early), False
    told = {what: count for what, count in run["outcome"].items() if count and what != "seconds"}
    return ", ".join(f"{what.replace('_', ' ')} {count}" for what, count in told.items()), True


#: Rows in their order: the name, a figure that it needs, and what makes the value of all of them.
_ROWS: Final[Sequence[tuple[str, str, Callable[[Mapping[str, Any]], Row]]]] = (
    ("only in Redis", "pending", _at_stake),
    ("pending", "pending", _pending),
    ("safe", "safe", _safe),
    ("refused", "cap", _refused),
    ("caps", "caps", _caps),
    (
        "persisted",
        "flushed_per_second",
        lambda figures: (f"{figures['flushed_per_second']:.1f} documents a second, in the last {RATE_S} s", True),
    ),
    ("writes", "totals", _writes),
    ("reads", "hit_ratio", _reads),
    ("dead letters", "dead_letters", _dead),
    ("MongoDB", "breaker", _mongodb),
    ("workers", "workers", _workers),
    ("queues", "consumers", _queues),
    ("beat", "beat", _beat),
    ("exporter", "exporter", lambda figures: _exporter(figures["exporter"])),
    ("listener", "listener", lambda figures: _listener(figures["listener"])),
    ("readers see", "consistency", lambda figures: seen(figures["consistency"])),
    ("reconciled", "consistency", lambda figures: _consistency(figures["consistency"])),
    ("partitions", "partitions", lambda figures: (str(figures["partitions"]), True)),
    ("version", "version", lambda figures: (figures["version"], True)),
)
