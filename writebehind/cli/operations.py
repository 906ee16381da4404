"""Commands of operators: `writebehind doctor`, `init`, `drain`, `repartition`, `adopt` and `rebalance`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import partial
from typing import Final

import click
import orjson
from rich import progress as rich_progress
from rich.console import Console
from rich.table import Column
from rich.text import Text

from writebehind.cli.installation import asking_workers, named, opened
from writebehind.logs.quoting import printable_line
from writebehind.monitoring.directory import directory_of
from writebehind.operations.acl import User, oldest, users
from writebehind.operations.adopt import adopt as move_to
from writebehind.operations.doctor import Finding, Level, configuration, examine
from writebehind.operations.drain import Progress
from writebehind.operations.drain import drain as drain_all
from writebehind.operations.growth import Growth, exposed, grow
from writebehind.operations.indexes import create_lookup_indexes
from writebehind.operations.rebalance import Progress as Rebalancing
from writebehind.operations.rebalance import Rebalanced
from writebehind.operations.rebalance import rebalance as share_anew
from writebehind.operations.repartition import repartition as divide_anew
from writebehind.plurals import counted, size_of
from writebehind.redis.reach import known
from writebehind.redis.topology.guard import HOME
from writebehind.settings.urls import redacted

#: Characters that a bar has.
_BAR: Final = 24
_STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.FAILURE: "bold red"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One line of JSON for each check.")
@click.option("--config", is_flag=True, help="Print what Redis and Sentinels should be configured with instead.")
@click.option("--acl", is_flag=True, help="Print the users that Redis and the broker should have instead.")
@click.option(
    "--loss-seen", is_flag=True, help="Note that you have seen what Redis has lost with its data instead."
)
def doctor(as_json: bool, config: bool, acl: bool, loss_seen: bool) -> None:
    """Say what is wrong with servers and processes.

    It looks whether this installation is fit to keep what it acknowledges.
    The exit status is that of the worst finding: 0 all is well, 1 a warning, 2 a failure.
    """
    with opened() as pipeline:
        if config:
            click.echo("\n".join(configuration(pipeline)))
            return
        if acl:
            _print_users(users(pipeline.settings, oldest(pipeline)), as_json)
            return
        if loss_seen:
            pipeline.store.check_recorded()
            seen = pipeline.store.lost_data.see()
            told = f"{counted(seen, 'loss', 'losses')} of the data of Redis: noted as seen"
            click.echo(orjson.dumps({"seen": seen}) if as_json else told)
            return
        with suppress(OSError):  # there is no directory for temporary files
            pipeline.keep_in(pipeline.settings.state_dir or directory_of(pipeline.settings))
        found = list(examine(pipeline))
    if as_json:
        for one in found:
            shown = {"found": redacted(one.found), "advice": redacted(one.advice)}
            click.echo(orjson.dumps(asdict(one) | {"level": one.level.name.lower()} | shown))
    else:
        for one in sorted(found, key=lambda one: one.level, reverse=True):
            _print(one)
    sys.exit(max(one.level for one in found))


@click.command()
@click.option("--dry-run", is_flag=True, help="Say what would be created, and create nothing.")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON for each index.")
def init(dry_run: bool, as_json: bool) -> None:
    """Create the unique indexes that lookups need in MongoDB.

    They are of the fields that the settings list under `lookup`; those that are there already stay.
    The exit status is 1 where MongoDB refuses one, as when two documents have the same value.
    """
    refused = False
    with opened() as pipeline:
        for one in create_lookup_indexes(pipeline, dry_run=dry_run):
            collection, field = one.index.collection, one.index.field
            told = {"collection": collection, "field": field, "index": one.done, "error": one.why or None}
            click.echo(orjson.dumps(told).decode() if as_json else f"{collection}.{field}: {one.done}")
            if one.why:
                refused = True
                click.echo(f"writebehind: {one.why}", err=True)
    sys.exit(int(refused))


def _print(one: Finding) -> None:
    """A finding in plain lines, whole: columns of a table would cut the advice."""
    level = f"{one.level.name.lower():<8}"
    said = Text.assemble((level, _STYLES[one.level]), f" {one.check}: {printable_line(redacted(one.found))}")
    if one.advice:
        said.append(f"\n{'':<8}   do: {redacted(one.advice)}", "bold")
    Console().print(said, soft_wrap=True)


def _print_users(found: Iterable[User], as_json: bool) -> None:
    """Lines for `valkey-cli`, which knows no remarks: where each belongs is told on standard error."""
    for one in found:
        if as_json:
            click.echo(orjson.dumps(asdict(one) | {"rules": one.rules}))
        else:
            click.echo(f"on {one.servers}", err=True)
            click.echo(f"ACL SETUSER {one.name} {' '.join(one.rules)}")


def _shown(text: str) -> str:
    return redacted(text).replace("[", "\\[")  # which rich would take for a style


@click.command()
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), default=60.0, show_default=True, help="Seconds."
)
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def drain(timeout: float, as_json: bool) -> None:
    """Bring everything that is pending to MongoDB now.

    As before a deploy, or a change of the partitions. Workers may run meanwhile, or not. The exit status is 0 when
    nothing is pending any more, else 1. One of several servers that does not answer is not waited for, and is 1.
    """
    with opened() as pipeline:
        division = known(pipeline.store, pipeline.store.division.recorded, None)
    # All that Redis holds, also where the settings have another number of partitions already.
    settings = named(tell=False, partitions=division.partitions) if division else pipeline.settings
    with asking_workers(settings) as pipeline, _progress("draining") as bar:
        most = 0

        def report(now: Progress) -> None:
            nonlocal most
            most = max(most, now.pending)
            bar(completed=most - now.pending, total=most, description=_shown(now.reason) or "draining")

        result = drain_all(pipeline, timeout_s=timeout, report=report)
    if as_json:
        click.echo(orjson.dumps(asdict(result)))
    else:
        click.echo(f"{result.persisted} persisted in {result.seconds:.1f} s, {result.pending} pending")
        if result.dead_letters:
            dead = counted(result.dead_letters, "dead letter")
            click.echo(f"{dead}, which no draining helps: writebehind dead-letters list")
    if result.pending:
        reason = f": {redacted(result.reason)}" if result.reason else ""
        still = counted(result.pending, "document is", "documents are")
        click.echo(f"{still} still pending after {timeout:g} s{reason}", err=True)
    elif result.away:
        click.echo(f"nobody knows what is pending elsewhere: {result.reason}", err=True)
    if result.pending or result.away:
        sys.exit(1)


@click.command()
@click.argument("partitions", type=click.IntRange(1, 4096))
@click.option("--online", is_flag=True, help="While everything is read and written: to a multiple only.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def repartition(partitions: int, online: bool, as_json: bool) -> None:
    """Divide Redis into another number of PARTITIONS.

    Stop the web processes and workers, and run `writebehind drain` first: it refuses while a worker is alive,
    anything is pending, or there are dead letters. The cache is dropped. If it is interrupted, run it again.

    With --online nothing is stopped or dropped: 16 partitions can become 32 or 64, one after the other, on one
    Redis or a cluster. Processes go on, and those that start may have either number in their settings.
    """
    if online:
        _grow(partitions, as_json)
        return
    with opened(partitions=partitions) as pipeline, _progress("dropping what is cached") as bar:
        result = divide_anew(pipeline, partitions, report=lambda dropped: bar(completed=dropped))
    if as_json:
        click.echo(orjson.dumps(asdict(result)))
    elif result.before == result.after:
        click.echo(f"Redis has {counted(result.after, 'partition')} already")
    else:
        before, after = counted(result.before, "partition"), result.after
        click.echo(f"{before} became {after}: set WRITEBEHIND_PARTITIONS={after}")


def _grow(partitions: int, as_json: bool) -> None:
    with opened() as pipeline:
        division = pipeline.store.division.recorded()
    # As Redis is divided, also where the settings have the new number already.
    settings = named(tell=False, partitions=division.partitions) if division else pipeline.settings
    with asking_workers(settings) as pipeline, _progress("telling everybody") as bar:

        def report(now: Growth) -> None:
            bar(completed=now.divided, total=now.total, description=f"partitions, {counted(now.copied, 'key')}")

        for one in exposed(pipeline):
            click.echo(
                f"writebehind: {one} has no replica and no `appendfsync always`: a crash within a second of a "
                "division may lose documents that were fsynced on another node",
                err=True,
            )
        result = grow(pipeline, partitions, report=report)
    if as_json:
        click.echo(orjson.dumps(asdict(result)))
    elif result.before == result.after:
        click.echo(f"Redis has {counted(result.after, 'partition')} already")
    else:
        before, after = counted(result.before, "partition"), result.after
        click.echo(f"{before} became {after}, and no write waited longer than {result.longest_s:.2f} s for it")
        click.echo(f"set WRITEBEHIND_PARTITIONS={after} when you next start something")


@click.command()
@click.option("--force", is_flag=True, help="Also with documents that are pending or dead: they go there as well.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def adopt(force: bool, as_json: bool) -> None:
    """Let this Redis belong to another MongoDB database.

    It is the one that the settings name now. For documents that have moved to a database of another name; a second
    installation takes a Redis database of its own. Stop the web processes and workers, and run `writebehind drain`
    with the former name first: it refuses while a worker is alive, and, without --force, while anything is pending
    or there are dead letters. The cache is dropped. If it is interrupted, run it again.
    """
    with opened() as pipeline, _progress("dropping what is cached") as bar:
        result = move_to(pipeline, force=force, report=lambda dropped: bar(completed=dropped))
    if as_json:
        click.echo(orjson.dumps(asdict(result)))
    elif result.before == result.after:
        click.echo(f"this Redis belongs to database {result.after!r} already")
    else:
        click.echo(f"this Redis belonged to database {result.before!r}, and belongs to {result.after!r} now")
    if result.pending or result.dead_letters:
        click.echo(
            f"writebehind: {counted(result.pending, 'pending document')} and "
            f"{counted(result.dead_letters, 'dead letter')} of {result.before!r} are in Redis, and go to "
            f"{result.after!r}",
            err=True,
        )


@click.command()
@click.option(
    "--without", multiple=True, help="A server that shall have nothing any more. May be given several times."
)
@click.option("--dry-run", is_flag=True, help="Say what would move, and move nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def rebalance(without: tuple[str, ...], dry_run: bool, as_json: bool) -> None:
    """Let the servers that REDIS_URL names share the partitions.

    For a server more, or, with --without, one less. Only what must move does, one partition after the other, while
    everything is read and written. Set REDIS_URL with all servers in all processes first, and take a server out of
    it afterwards. If it is interrupted, run it again.
    """
    with opened() as pipeline, _progress("looking") as bar:

        def report(now: Rebalancing) -> None:
            bar(completed=now.moved, total=now.total, description=f"{now.place}: {counted(now.copied, 'key')}")

        result = share_anew(pipeline, without=without, dry_run=dry_run, report=report)
    if as_json:
        click.echo(orjson.dumps(asdict(result)))
        return
    for one in result.moved:
        what = "what belongs to no partition" if one.place == HOME else f"partition {one.place}"
        click.echo(f"{what} {'would move' if dry_run else 'has moved'} from {one.source} to {one.target}")
    click.echo(_sum_of(result, dry_run=dry_run))
    if not dry_run:
        waited = f", and no write waited longer than {result.longest_s:.2f} s for it" if result.moved else ""
        click.echo(f"{', '.join(result.servers)} have all partitions{waited}")
        if without:
            click.echo(f"take {', '.join(without)} out of REDIS_URL of all processes, and restart these")


def _sum_of(result: Rebalanced, *, dry_run: bool) -> str:
    """The sum of what moves, in words."""
    moved = sum(one.place != HOME for one in result.moved)
    share = f"{moved} of {counted(result.partitions, 'partition')}"
    if not dry_run:
        return f"{share} {'has' if moved == 1 else 'have'} moved, with {counted(result.keys, 'key')}"
    pending, size = counted(result.pending or 0, "pending document"), size_of(result.about_bytes or 0)
    return f"{share} would move, with {pending} and about {size} of what Redis holds"


@contextmanager
def _progress(what: str) -> Iterator[Callable[..., None]]:
    """A bar on stderr; yields what moves it, which takes what `rich.progress.Progress.update` does.

    It is gone at the end, but for Ctrl-C: how far it has come stays to be read then.
    """
    text = rich_progress.TextColumn
    columns = (
        rich_progress.BarColumn(_BAR),
        text("{task.completed}"),
        rich_progress.TimeElapsedColumn(),
        text("{task.description}", table_column=Column()),  # on several lines rather than the others on none
    )
    with rich_progress.Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        try:
            yield partial(progress.update, progress.add_task(what, total=None))
        except KeyboardInterrupt:
            progress.live.transient = False
            raise
