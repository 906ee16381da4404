"""`writebehind reconcile`: find where Redis and MongoDB differ, and repair it."""

from __future__ import annotations

import sys

import click
import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from writebehind import Pipeline
from writebehind.cli.columns import columns
from writebehind.cli.installation import asking_workers, named
from writebehind.logs.formats import printable_line
from writebehind.plurals import counted
from writebehind.reconcile.findings import Pass


@click.command()
@click.option("--all", "everything", is_flag=True, help="A whole pass. Else the part that is due.")
@click.option("--repair/--dry-run", default=True, show_default=True, help="Put right what is found, or not.")
@click.option("--collection", "collections", multiple=True, help="Only entries of this collection; with --all.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def reconcile(everything: bool, repair: bool, collections: tuple[str, ...], as_json: bool) -> None:
    """Compare what is cached with MongoDB, and repair it.

    What is pending, dead, deleted and leased in Redis is compared with itself.
    The exit status is 0 when nothing was found, 1 when there was drift.
    """
    if not everything and (collections or not repair):
        raise click.UsageError("--collection and --dry-run are of a whole pass: add --all")
    settings = named()
    if unknown := sorted(set(collections) - set(settings.collections)):
        raise click.UsageError(f"no such collection: {', '.join(unknown)}")
    with asking_workers(settings) as pipeline:
        pipeline.check()
        if not everything:
            done = pipeline.maintenance.reconcile()
            click.echo(
                orjson.dumps(done) if as_json else ", ".join(f"{name}: {one}" for name, one in done.items())
            )
            sys.exit(int(bool(done.get("found"))))
        found = _whole(pipeline, repair, collections)
    if as_json:
        click.echo(orjson.dumps(found.as_dict()))
    else:
        _show(found)
    sys.exit(int(bool(found.found)))


def _whole(pipeline: Pipeline, repair: bool, collections: tuple[str, ...]) -> Pass:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("keys", total=pipeline.store.size())
        return pipeline.reconciler.make_pass(
            repair=repair, collections=collections, report=lambda one: progress.update(bar, completed=one.keys)
        )


def _show(found: Pass) -> None:
    if found.found:
        table = Table(*columns("drift", "found", "repaired", "such as"))
        for kind, count in sorted(found.found.items()):
            samples = printable_line(", ".join(found.samples[kind][:3])).replace("[", "\\[")
            table.add_row(kind, str(count), str(found.repaired.get(kind, 0)), samples)
        Console().print(table)
    equal = f", {found.equal} of them equal to MongoDB" if found.checked else ""
    compared = counted(found.checked, "entry", "entries")
    click.echo(f"{counted(found.keys, 'key')} looked at, {compared} compared{equal}")
