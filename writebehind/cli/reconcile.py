"""`writebehind reconcile`: find where Redis and MongoDB differ, and repair it."""

from __future__ import annotations

import sys
from enum import IntEnum

import click
import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from writebehind import Pipeline
from writebehind.cli.columns import columns
from writebehind.cli.installation import asking_workers, check_mongodb, named
from writebehind.errors import UnavailableError
from writebehind.logs.quoting import printable_line
from writebehind.plurals import counted
from writebehind.reconcile.entries import Vanished
from writebehind.reconcile.findings import Pass
from writebehind.settings.urls import redacted


class Outcome(IntEnum):
    """Outcome of the command, as the exit status says it; 2 is a wrong usage."""

    EQUAL = 0
    DRIFT = 1
    UNSEEN = 3


@click.command()
@click.option("--all", "everything", is_flag=True, help="A whole pass. Else the part that is due.")
@click.option("--repair/--dry-run", default=True, show_default=True, help="Put right what is found, or not.")
@click.option("--collection", "collections", multiple=True, help="Only entries of this collection; with --all.")
@click.option(
    "--vanished",
    type=click.Choice(["drop", "restore", "keep"]),
    help="What becomes of documents that MongoDB has no more; with --all. By default a few are dropped, as others "
    "have deleted them, and many are kept, as MongoDB may have lost them.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def reconcile(
    everything: bool, repair: bool, collections: tuple[str, ...], vanished: str | None, as_json: bool
) -> None:
    """Compare what is cached with MongoDB, and repair it.

    What is pending, dead, deleted and leased in Redis is compared with itself.
    The exit status is 0 when nothing was found, 1 when there was drift, and 3 when not all was compared that was
    to be: a server does not answer, or somebody else reconciles.
    """
    if not everything and (collections or not repair or vanished):
        raise click.UsageError("--collection, --dry-run and --vanished are of a whole pass: add --all")
    settings = named()
    if unknown := sorted(set(collections) - set(settings.collections)):
        raise click.UsageError(f"no such collection: {', '.join(unknown)}")
    with asking_workers(settings) as pipeline:
        try:
            pipeline.check()
            check_mongodb(pipeline)
            if everything:
                way = Vanished(vanished) if vanished else None
                outcome = _whole(pipeline, repair, collections, way, as_json)
            else:
                outcome = _part(pipeline, as_json)
        except UnavailableError as error:
            told = "; ".join(getattr(error, "__notes__", ())) or "nothing was compared"
            why = f"{told}: {printable_line(redacted(str(error)))}"
            if as_json:
                click.echo(orjson.dumps({"outcome": Outcome.UNSEEN.name.lower(), "why": why}))
            click.echo(f"writebehind: {why}", err=True)
            outcome = Outcome.UNSEEN
    sys.exit(outcome)


def _part(pipeline: Pipeline, as_json: bool) -> Outcome:
    """Do what is due."""
    done = pipeline.maintenance.reconcile()
    if as_json:
        click.echo(orjson.dumps(done))
    elif "keys" in done:
        click.echo(", ".join(f"{name}: {one}" for name, one in done.items()))
    if "keys" not in done:
        click.echo("writebehind: nothing was compared: somebody else reconciles just now", err=True)
        return Outcome.UNSEEN
    if not done["keys"]:
        click.echo("nothing is due just now: --all makes a whole pass", err=True)
    return Outcome(bool(done["found"]))


def _whole(
    pipeline: Pipeline, repair: bool, collections: tuple[str, ...], vanished: Vanished | None, as_json: bool
) -> Outcome:
    """Make a pass; a server that is lost meanwhile has a note how far it came."""
    so_far = Pass()

    def report(one: Pass) -> None:
        nonlocal so_far
        so_far = one
        progress.update(bar, completed=one.keys)

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=Console(stderr=True)) as progress:
            bar = progress.add_task("keys", total=pipeline.store.size())
            found = pipeline.reconciler.make_pass(
                repair=repair, collections=collections, vanished=vanished, report=report
            )
    except UnavailableError as error:
        compared = counted(so_far.checked, "entry", "entries")
        error.add_note(f"the pass did not come to its end, {compared} compared by then")
        raise
    if as_json:
        click.echo(orjson.dumps(found.as_dict()))
    else:
        _show(found)
    return Outcome(bool(found.found))


def _show(found: Pass) -> None:
    if found.found:
        table = Table(*columns("drift", "found", "repaired", "such as"))
        for kind, count in sorted(found.found.items()):
            samples = printable_line(", ".join(found.samples[kind][:3])).replace("[", "\\[")
            table.add_row(kind, str(count), str(found.repaired.get(kind, 0)), samples)
        Console().print(table)
    if found.vanished:
        gone = counted(found.vanished, "document")
        click.echo(
            f"MongoDB has no more {gone}: --vanished restore writes what Redis has, --vanished drop forgets it"
        )
    equal = f", {found.equal} of them equal to MongoDB" if found.checked else ""
    compared = counted(found.checked, "entry", "entries")
    click.echo(f"{counted(found.keys, 'key')} looked at, {compared} compared{equal}")
