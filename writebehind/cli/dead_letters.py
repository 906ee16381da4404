"""`writebehind dead-letters`: see to what MongoDB refuses."""

from __future__ import annotations

import getpass
import logging
import os
import shlex
import socket
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TypeVar

import click
import orjson
from rich.console import Console
from rich.progress import track

from writebehind import Pipeline
from writebehind.cli.installation import opened
from writebehind.documents import grammar
from writebehind.flushing.dead_letter import DeadLetter
from writebehind.flushing.dead_letters import SLICE, Filter, Found, Reason
from writebehind.logs.quoting import printable_line
from writebehind.plurals import counted
from writebehind.redis.reach import told_away
from writebehind.sequences import slices

log = logging.getLogger(__name__)

_VERSION = click.option("--version", type=click.IntRange(0), help="Of COLLECTION ID, the letter of this version.")
_F = TypeVar("_F", bound=Callable[..., Any])

#: How long `replay --wait` waits for MongoDB, ms, for each slice.
WAIT_MS = 30_000


class _Time(click.DateTime):
    """A time of RFC 3339, also with a blank in the place of its T; or what `click.DateTime` takes, as UTC."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Read it; refuse what is none."""
        if isinstance(value, datetime):
            return value
        with suppress(ValueError):
            return grammar.date(value.replace(" ", "T", 1))
        try:
            return super().convert(value, param, ctx).replace(tzinfo=UTC)
        except click.BadParameter:
            self.fail(f"{value!r} is no time such as 2026-11-26T18:34:59Z, and no date", param, ctx)


@click.group("dead-letters")
def dead_letters() -> None:
    """See to documents that MongoDB refuses."""


def _filters(command: _F) -> _F:
    """The options that choose letters, as one argument `wanted`."""
    for option in (
        click.option("--before", type=_Time(), metavar="TIME", help="Failed before this time; see --after."),
        click.option(
            "--after",
            type=_Time(),
            metavar="TIME",
            help="Failed at this time or later, as `list` prints it, or a date; in UTC where no zone is said.",
        ),
        click.option("--code", type=int, help="MongoDB's error code, such as 11000."),
        click.option("--reason", type=click.Choice([reason.value for reason in Reason])),
        click.option("--collection", help="Of this collection."),
    ):
        command = option(command)
    return command


def _wanted(options: dict[str, Any]) -> Filter:
    times = {
        name: options.pop(name).timestamp() if options[name] else options.pop(name) for name in ("after", "before")
    }
    return Filter(**times, **{name: options.pop(name) for name in ("collection", "reason", "code")})


def _known(pipeline: Pipeline, wanted: Filter) -> Filter:
    """The filter, whose collection is one of the settings, or has letters: a misspelt one would find nothing.

    Raises:
        UnknownCollectionError: it is neither.
    """
    if wanted.collection is not None and wanted.collection not in pipeline.store.load().dead:
        pipeline.collection(wanted.collection)
    return wanted


@dead_letters.command("list")
@_filters
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One line of JSON for each.")
def list_(limit: int, as_json: bool, **options: Any) -> None:
    """List dead letters, without their documents.

    What has failed last comes first. Where there are more than --limit, they are any of them, and not the last.
    """
    with opened() as pipeline:
        pipeline.store.check_answered()
        page = pipeline.dead_letters.page(_known(pipeline, _wanted(options)), limit=limit)
        total = pipeline.dead_letters.count()
        _tell_left_out(pipeline, page.away)
    if as_json:
        for one in page.newest_first():
            click.echo(orjson.dumps(one.letter.as_dict()))
        return
    for one in page.newest_first():
        click.echo("\n".join(map(printable_line, _lines(one.letter))))
    more = ", and there may be more that are meant" if page.cursor else ""
    click.echo(f"{len(page.letters)} of {counted(total, 'dead letter')}{more}")


def _tell_left_out(pipeline: Pipeline, partitions: Sequence[int]) -> None:
    """Say of which partitions no letters are known, as their server does not answer while others do."""
    if partitions:
        why = told_away(pipeline.store.servers_of(partitions))
        click.echo(f"writebehind: {why}: its dead letters are left out", err=True)


def _lines(letter: DeadLetter) -> Iterator[str]:
    """One letter for a terminal, whole: a table would cut what a replay has to name."""
    shown = letter.as_dict()
    yield f"{shown['collection']}/{shown['id']}"
    attempts = f"{counted(letter.attempts, 'attempt')} since it was written or replayed"
    yield f"    {letter.reason}, version {letter.version}, {shown['failed']}, {attempts}"
    if letter.trace_id:
        yield f"    written in trace {letter.trace_id}"
    if said := " ".join(letter.message.split()):
        yield f"    {shown['code_name'] or letter.code}: {said}" if letter.code else f"    {said}"


@dead_letters.command()
@click.argument("collection")
@click.argument("id")
@_VERSION
def show(collection: str, id: str, version: int | None) -> None:  # noqa: A002 - as users know it
    """Show one dead letter with its document, as JSON.

    By default it is the newest of that document.
    """
    with opened(checked=True) as pipeline:
        found = pipeline.dead_letters.show(pipeline.collection(collection).id(id), version)
    click.echo(orjson.dumps(orjson.loads(found.as_json()), option=orjson.OPT_INDENT_2))


@dead_letters.command()
@click.argument("collection_and_id", nargs=-1)
@_filters
@click.option("--all", "every", is_flag=True, help="All of them.")
@_VERSION
@click.option("--wait", is_flag=True, help="Bring them to MongoDB now; exit with 1 if some are refused again.")
def replay(
    collection_and_id: tuple[str, ...], version: int | None, every: bool, wait: bool, **options: Any
) -> None:
    """Try to persist dead letters once more.

    Which: COLLECTION ID, those that the options choose, or --all. Without --wait workers are asked to persist
    them. Of conflicts, where MongoDB has something else that would be overwritten, only those are replayed that
    are named: by COLLECTION ID, or --reason conflict; then only the newest of each document, and none over what
    was written since.
    """
    replayed: set[str] = set()
    left: Counter[str] = Counter()
    refused = 0
    wanted, named = _wanted(options), bool(collection_and_id)
    conflicts = named or wanted.reason == Reason.CONFLICT
    with opened(checked=True, asking=True) as pipeline:
        found = _chosen(pipeline, collection_and_id, wanted, version=version, every=every)
        for some in _slices(found, "replaying"):
            tried = [one for one in some if one.letter.member not in replayed]
            done = pipeline.dead_letters.replay(tried, conflicts=conflicts, only_newest=not named)
            replayed |= done.keys()
            left += done.left + Counter(newer=len(some) - len(tried))
            if wait:
                refused += len(pipeline.flusher.persist(done, timeout_ms=WAIT_MS))
    why = ", ".join(f"{count} {reason}" for reason, count in (+left).items())
    _log("replayed", len(replayed), left=left.total())
    asked = "" if wait or not replayed else "; workers try that now, and --wait says what comes of it"
    click.echo(f"{len(replayed)} replayed" + (f"; {left.total()} left: {why}" if why else "") + asked)
    if refused:
        why = "not in MongoDB: refused again, or it did not answer in time"
        click.echo(f"of them {counted(refused, 'is', 'are')} {why}", err=True)
        sys.exit(1)


@dead_letters.command()
@click.argument("collection_and_id", nargs=-1)
@_filters
@click.option("--all", "every", is_flag=True, help="All of them.")
@_VERSION
@click.option("--yes", is_flag=True, help="Do not ask.")
def discard(
    collection_and_id: tuple[str, ...], version: int | None, every: bool, yes: bool, **options: Any
) -> None:
    """Forget dead letters for good.

    Which: COLLECTION ID, those that the options choose, or --all. Their acknowledged changes are gone then:
    readers see what MongoDB has, or that there is nothing. If in doubt, export them first.
    """
    with opened(checked=True) as pipeline:
        found = _chosen(pipeline, collection_and_id, _wanted(options), version=version, every=every)
        if not yes:
            if not sys.stdin.isatty():
                raise click.UsageError(
                    f"this would discard {counted(len(found), 'dead letter')} for good: say --yes"
                )
            click.confirm(f"Discard {counted(len(found), 'dead letter')} for good?", abort=True)
        discarded = sum(pipeline.dead_letters.discard(some) for some in _slices(found, "discarding"))
    _log("discarded", discarded, left=len(found) - discarded)
    click.echo(f"{discarded} discarded")


@dead_letters.command()
@_filters
@click.option("--output", type=click.File("wb"), default="-", help="A file.  [default: standard output]")
def export(output: Any, **options: Any) -> None:
    """Write dead letters with their documents as NDJSON."""
    count = 0
    with opened(checked=True) as pipeline:
        wanted = _known(pipeline, _wanted(options))
        total = pipeline.dead_letters.count()
        letters = pipeline.dead_letters.all(wanted)
        for one in track(letters, "exporting", total, console=Console(stderr=True), transient=True):
            output.write(one.as_json() + b"\n")
            count += 1
    click.echo(f"{count} exported", err=True)


def _user() -> str:
    """The name of who runs this, or the number of one who has none, as in a container."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _log(done: str, count: int, *, left: int) -> None:
    """Log what was changed, by whom and by which choice; the API logs its administrative calls as well."""
    context = click.get_current_context()
    chosen = " ".join(
        _as_typed(one, context.params[name])
        for one in context.command.params
        if (name := one.name) and context.params[name] not in {None, False, ()} and name not in {"wait", "yes"}
    )
    by = f"{_user()}@{socket.gethostname()}"
    what = counted(count, "dead letter", "dead letters")
    told = {"event": f"letters_{done}", "count": count, "left": left, "by": by, "chosen": chosen}
    log.warning("%s %s by %s: %s", what, done, by, chosen, extra=told)


def _as_typed(one: click.Parameter, value: Any) -> str:
    """A parameter with its value, as a command line has it: `users ada`, `--all`, `--code 11000`."""
    words = [str(part) for part in value] if isinstance(value, tuple) else [str(value)]
    if isinstance(one, click.Option):
        words = [one.opts[0]] if value is True else [one.opts[0], *words]
    return shlex.join(words)


def _chosen(
    pipeline: Pipeline, collection_and_id: tuple[str, ...], wanted: Filter, *, version: int | None, every: bool
) -> list[Found]:
    """The letters that the arguments name; all of them only with `--all`."""
    match collection_and_id:
        case (collection, given):
            if every or wanted != Filter():
                raise click.UsageError("give COLLECTION ID, or options, or --all, but not several")
            return [pipeline.dead_letters.named(pipeline.collection(collection).id(given), version)]
        case () if version is not None:
            raise click.UsageError("--version is of COLLECTION ID")
        case ():
            if every == (wanted != Filter()):
                raise click.UsageError("say which: COLLECTION ID, options such as --collection, or --all")
            _known(pipeline, wanted)
            pages = list(pipeline.dead_letters.pages(wanted, bodies=False))
            _tell_left_out(pipeline, [partition for page in pages for partition in page.away])
            return [one for page in pages for one in page.letters]
    raise click.UsageError("give COLLECTION and ID")


def _slices(found: list[Found], what: str) -> Iterator[Sequence[Found]]:
    parts = list(slices(found, SLICE))
    return iter(track(parts, what, console=Console(stderr=True), transient=True))
