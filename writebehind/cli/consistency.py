"""`writebehind consistency`: observe for a while whether readers see what is right."""

from __future__ import annotations

import math
import re
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any, NoReturn
from urllib.parse import urlsplit

import click
import orjson
from rich.console import Console
from rich.table import Table

from writebehind import Pipeline, times
from writebehind.access.keys import Token
from writebehind.cli.columns import columns
from writebehind.cli.installation import opened
from writebehind.consistency import tally
from writebehind.consistency.observer import Observer
from writebehind.errors import UnavailableError
from writebehind.logs.quoting import printable_line
from writebehind.plurals import counted
from writebehind.settings.urls import redacted

#: Why there are no figures of the last hour.
NOBODY = "nobody observed in the last hour: the exporter does, and `--for` does"
_DURATION, _UNITS = re.compile(r"([0-9]{1,6})(s|m|h)?"), {"s": 1, "m": 60, "h": 3_600}


class Outcome(IntEnum):
    """Outcome of the command, as the exit status says it; 2 is a wrong usage."""

    RIGHT = 0
    WRONG = 1
    UNSEEN = 3


class Duration(click.ParamType):  # type: ignore[type-arg]  # as it is called in each version
    """A time such as `60s`, `5m` or `1h`; a number alone is seconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The seconds of it."""
        if isinstance(value, float):
            return value
        found = _DURATION.fullmatch(str(value))
        if found is None or not int(found[1]):
            self.fail(f"{value!r} is no time such as 60s, 5m or 1h", param, ctx)
        return float(int(found[1]) * _UNITS[found[2] or "s"])


@click.command()
@click.option("--for", "seconds", type=Duration(), help="Observe for so long first, such as 60s.")
@click.option(
    "--api", default="", help="Address of an API to ask as well, such as http://127.0.0.1:8000; with --for."
)
@click.option(
    "--key",
    default="",
    help="API key that may read there; on this machine by default WRITEBEHIND_ROOT_KEY, which no `ps` shows.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def consistency(seconds: float | None, api: str, key: str, as_json: bool) -> None:
    """Show which part of what readers see is right.

    Right is what MongoDB has, or what is pending. A look at a document is right within 1, 10 or 60 s if readers
    see what is right after that time. One process observes at a time: with --for this one, unless another one
    does. Nothing is repaired. The exit status is 1 where something was wrong in that time, or, without --for, in
    the last hour; and 3 where nothing is known, or a server or the API did not answer meanwhile.
    """
    _check_api(api, key, seconds)
    try:
        with opened(checked=True) as pipeline:
            apart = pipeline.tallies.apart
            told = _observe(pipeline, seconds, api, key) if seconds else tally.recorded(pipeline.store, apart)
    except UnavailableError as error:
        _give_up(error, as_json=as_json)
    outcome, looked = _outcome(told), "nothing is known"
    if outcome is Outcome.RIGHT and (failure := told.get("failure")):
        outcome, looked = Outcome.UNSEEN, "for a time nothing could be looked at"
        told["why"] = failure
    unasked = _unasked(told.get("api"))
    if outcome is Outcome.RIGHT and unasked:
        outcome, (looked, told["why"]) = Outcome.UNSEEN, unasked
    told |= {
        "outcome": outcome.name.lower(),
        "why": told.get("why", NOBODY) if outcome is Outcome.UNSEEN else None,
    }
    if as_json:
        click.echo(orjson.dumps(told))
    else:
        _show(told)
    if outcome is Outcome.UNSEEN:
        click.echo(f"writebehind: {looked}: {told['why']}", err=True)
    elif unasked:
        click.echo(f"writebehind: {': '.join(unasked)}", err=True)
    sys.exit(outcome)


def _give_up(error: UnavailableError, *, as_json: bool) -> NoReturn:
    """Say that a server does not answer, so that nothing is known."""
    why = printable_line(redacted(str(error)))
    if as_json:
        click.echo(orjson.dumps({"outcome": Outcome.UNSEEN.name.lower(), "why": why}))
    click.echo(f"writebehind: nothing is known: {why}", err=True)
    sys.exit(Outcome.UNSEEN)


def _outcome(told: Mapping[str, Any]) -> Outcome:
    windows = told["windows"].values()
    if all(_is_unknown(one) for one in windows):
        return Outcome.UNSEEN
    return Outcome.WRONG if any(one["wrong"] for one in windows) else Outcome.RIGHT


def _check_api(api: str, key: str, seconds: float | None) -> None:
    """See that an API can be asked.

    Raises:
        click.UsageError: it cannot.
    """
    if key and not api:
        raise click.UsageError("--key is for an API: name it with --api")
    if not api:
        return
    if not seconds:
        raise click.UsageError("--api needs --for: for figures of the last hour no API is asked")
    try:
        parts = urlsplit(api)
        is_address = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # of the port
        is_address = False
    if not is_address:
        raise click.UsageError("--api is no address such as http://127.0.0.1:8000")
    if key and Token.parse(key) is None:
        raise click.UsageError("--key is no key such as `writebehind keys create` prints: wb_…")


def _unasked(api: Mapping[str, Any] | None) -> tuple[str, str] | None:
    """The part of an API that was not compared, and why; `None` where all was, or none is named."""
    if api is None or (api["compared"] and not api["failure"]):
        return None
    why = api["failure"] or "it was not asked about any document: observe for longer"
    return "for a time the API was not compared" if api["compared"] else "nothing of the API was compared", why


def _observe(pipeline: Pipeline, seconds: float, api: str, key: str) -> dict[str, Any]:
    """The figures of so many seconds: of this process, or of Redis where another one observes."""
    observer, until, stop = pipeline.observer(api=api, key=key), time.monotonic() + seconds, threading.Event()
    samples, began = pipeline.store.samples, time.time()
    slot = samples.slot()
    before = samples.counts_from(slot)
    try:
        while (left := until - time.monotonic()) > 0:
            stop.wait(min(left, observer.step()))
        wrong_now, used_s = observer.suspects.wrong_now(time.monotonic()), observer.budget.used_s
    finally:
        observer.close()
    if observer.has_led:
        counts = observer.tally.total
        inconsistent = _merged(wrong_now, observer.tally.named())
    else:  # another process does
        after = samples.counts_from(slot)
        counts = {
            name: count - before.get(name, 0) for name, count in after.items() if count > before.get(name, 0)
        }
        inconsistent = tally.named_since(pipeline.store, began)
    return {
        "span_seconds": seconds,
        **tally.figures(counts, pipeline.tallies.apart, observed_s=seconds),
        "inconsistent": inconsistent,
        "observed_here": observer.has_led,
        "cpu_percent": round(100 * used_s / seconds, 2),
        "why": _why_unseen(observer),
        "failure": observer.failure if observer.has_led and observer.failure else None,
        "api": _answered(observer, api),
    }


def _answered(observer: Observer, api: str) -> dict[str, Any] | None:
    """The answers of an API that were compared, and why it last told nothing; `None` where none is named."""
    if observer.api is None:
        return None
    asked = observer.api
    return {"url": redacted(api), "compared": asked.compared, "failure": asked.failure or None}


def _merged(*lists: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The documents of several lists, each as the first one has it."""
    found: dict[tuple[object, ...], dict[str, Any]] = {}
    for one in (one for some in lists for one in some):
        found.setdefault((one["collection"], one["id"], one["since"]), dict(one))
    return list(found.values())


def _why_unseen(observer: Observer) -> str:
    """The reason why an observer has counted nothing, if it has not."""
    if not observer.has_led:
        return f"another process observes, and counted nothing meanwhile{_because(observer)}"
    if count := len(observer.suspects):
        few = counted(count, "document seems", "documents seem")
        return f"{few} wrong, which takes longer to be known: observe for longer"
    if observer.failure:
        return observer.failure
    if observer.tally.total:
        return "nothing can be seen to be wrong in so short a time: observe for longer"
    return "Redis had no entry that readers are served, or there was no time for one"


def _because(observer: Observer) -> str:
    return f", or a server does not answer: {observer.failure}" if observer.failure else ""


def summary(windows: Mapping[str, Mapping[str, Any]]) -> tuple[str, bool]:
    """The figures of each window in one line, and whether all was right."""
    if not any(one["looks"] for one in windows.values()):
        return "nobody has looked in the last hour", True
    parts = [f"{_share(one)} within {window} s" for window, one in windows.items() if one["looks"]]
    looks = max(one["looks"] for one in windows.values())
    return f"{', '.join(parts)}; {counted(looks, 'look')}", not any(one["wrong"] for one in windows.values())


def seen(consistency: Mapping[str, Any]) -> tuple[str, bool]:
    """The same of a status: what was right says nothing of a time in which nobody has looked."""
    told, good = summary(consistency["windows"])
    observed_s = consistency["observed_seconds_ago"]
    if observed_s is None or consistency["is_observed"]:
        return told, good
    return f"not observed for {observed_s:.0f} s; before that: {told}", False


def _is_unknown(one: Mapping[str, Any]) -> bool:
    """Whether the looks of a window say nothing: any part may be wrong, also all of it."""
    return not one["wrong"] and one["nines_from"] <= 0


def _share(one: Mapping[str, Any]) -> str:
    """The part that was right, with as many digits as it has nines."""
    if _is_unknown(one):
        return "nothing is known"
    if not one["wrong"]:
        return f"all right ({_nines(one['nines_from'])} nines at least)"
    digits = max(0, math.ceil(one["nines"] or 0) - 1)
    return f"{one['ratio']:.{digits}%} right ({_nines(one['nines'])} nines)"


def _nines(nines: float | None) -> str:
    return f"{max(0.0, nines or 0.0):.1f}"


def _show(told: Mapping[str, Any]) -> None:
    table = Table(*columns("collection", "within", "looks", "wrong", "right", "95 % interval", "nines"))
    for name, windows in [*told["collections"].items(), ("total", told["windows"])]:
        for window, one in windows.items():
            ratio = "" if one["ratio"] is None else f"{one['ratio']:.6%}"
            nines = f"over {_nines(one['nines_from'])}" if one["nines"] is None else _nines(one["nines"])
            interval = f"{one['ratio_from']:.6%} to {one['ratio_to']:.6%}"
            if not one["looks"] or _is_unknown(one):
                nines = interval = ""
                ratio = "not known" if one["looks"] else ""
            table.add_row(name, f"{window} s", str(one["looks"]), str(one["wrong"]), ratio, interval, nines)
    Console().print(table)
    unknown = [f"{window} s" for window, one in told["windows"].items() if one["looks"] and _is_unknown(one)]
    if unknown:
        click.echo(f"not known within {' and '.join(unknown)}: observe for longer than that")
    for one in told["inconsistent"]:
        since = times.shown(one["since"])
        document = printable_line(f"{one['collection']}/{one['id']}")
        click.echo(f"{document}: {one['fault']} for {one['seconds']:.0f} s, since {since}")
    if api := told.get("api"):
        click.echo(f"{counted(api['compared'], 'answer')} of {api['url']} compared with what Redis has")
    if "observed_here" in told:
        who = "this process" if told["observed_here"] else "another process, which goes on"
        click.echo(f"observed by {who}; {told['cpu_percent']:.2f} % of a core here")
