"""`writebehind hot-keys`: the documents that are read most; `writebehind warm`: load them ahead of readers."""

from __future__ import annotations

import sys

import click
import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from writebehind import Pipeline, connect
from writebehind.cli.columns import columns
from writebehind.cli.installation import check_mongodb, named, opened
from writebehind.logs.quoting import printable_line
from writebehind.plurals import counted
from writebehind.warming.hot_keys import WARMED, WARMED_READ
from writebehind.warming.warmer import Warmed


@click.command("hot-keys")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="How many.")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON for each.")
def hot_keys(limit: int, as_json: bool) -> None:
    """Show the documents that are read most, and how often."""
    with opened(checked=True) as pipeline:
        found = pipeline.hot_keys.top(limit)
    table = Table(*columns("collection", "id", "partition", "reads per second"))
    for one in found:
        told = {
            "collection": one.id.collection,
            "id": one.id.text,
            "partition": one.partition,
            "reads_per_second": round(one.rate, 3),
        }
        if as_json:
            click.echo(orjson.dumps(told))
        else:
            table.add_row(*(printable_line(str(part)).replace("[", "\\[") for part in told.values()))
    if not as_json and found:
        Console().print(table)
    elif not as_json:
        click.echo("none")


@click.command()
@click.option("--collection", "collections", multiple=True, help="Only documents of this collection.")
@click.option("--limit", type=click.IntRange(0), help="Most hot keys; by default `warm_keys`.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def warm(collections: tuple[str, ...], limit: int | None, as_json: bool) -> None:
    """Load hot keys that Redis lacks, before they are read.

    Those that are about to expire too, and what the settings keep warm.
    The exit status is 1 where it ended early: MongoDB or Redis was short of time or memory, or another one warms.
    """
    settings = named()
    if unknown := sorted(set(collections) - set(settings.collections)):
        raise click.UsageError(f"no such collection: {', '.join(unknown)}")
    with connect(settings) as pipeline:
        pipeline.check()
        check_mongodb(pipeline)
        done = _with_progress(pipeline, collections, limit)
        totals = pipeline.store.metrics.counters()
    if done is None:
        click.echo("writebehind: somebody else is warming just now", err=True)
        sys.exit(1)
    read = {"warmed_in_all": totals.get(WARMED, 0), "read_since": totals.get(WARMED_READ, 0)}
    if as_json:
        click.echo(orjson.dumps(done.as_dict() | read))
    else:
        click.echo(f"{done.warmed} of {counted(done.looked_at, 'document')} warmed in {done.seconds:.1f} s")
        later = counted(read["read_since"], "was", "were")
        click.echo(f"of {read['warmed_in_all']} warmed in all, at least {later} read afterwards")
    if done.stopped:
        click.echo(f"writebehind: it ended early: {done.stopped}", err=True)
        sys.exit(1)


def _with_progress(pipeline: Pipeline, collections: tuple[str, ...], limit: int | None) -> Warmed | None:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("warming", total=None)
        return pipeline.warmer.warm(
            collections=collections,
            limit=limit,
            report=lambda done, total: progress.update(bar, completed=done, total=total),
        )
