"""`writebehind listen` and `writebehind conflicts`: living beside other writers."""

from __future__ import annotations

import signal
from contextlib import suppress

import click
import orjson

from writebehind import times
from writebehind.change_stream.conflicts import MOST
from writebehind.cli.installation import asking_workers, opened
from writebehind.errors import RedisUnavailableError
from writebehind.launcher import begin_log
from writebehind.logs.quoting import printable_line
from writebehind.monitoring.directory import share_counts
from writebehind.settings.running import find
from writebehind.tracing.export import export_spans


@click.command()
def listen() -> None:
    """Drop from the cache what others have changed in MongoDB.

    It listens to MongoDB's change stream. Several may run: one leads, and another takes over when it ends. Runs
    until it is told to end.
    """
    begin_log("listen")
    export = export_spans("listener")
    with asking_workers(share_counts(find().settings)) as pipeline:
        export.count_in(pipeline.tallies)
        with suppress(RedisUnavailableError):  # it is waited for
            pipeline.check()
        listener = pipeline.listener()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: listener.stop())
        listener.listen()
    export.end()


@click.command()
@click.option("--limit", type=click.IntRange(1, MOST), default=100, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One line of JSON for each, with both documents.")
def conflicts(limit: int, as_json: bool) -> None:
    """List changes of others that met a pending write.

    Of their documents a newer state was pending. The latest come first.
    """
    with opened(checked=True) as pipeline:
        found = pipeline.conflicts.latest(limit)
    if as_json:
        for one in found:
            click.echo(orjson.dumps(one))
        return
    if not found:
        click.echo("none")
        return
    from rich.console import Console  # noqa: PLC0415 - the listener needs no tables
    from rich.table import Table  # noqa: PLC0415 - as above

    from writebehind.cli.columns import columns  # noqa: PLC0415 - as above

    table = Table(*columns("document", "they did", "what stands", "found at"))
    for one in found:
        document = printable_line(f"{one['collection']}/{one['id']}").replace("[", "\\[")
        table.add_row(document, one["operation"], one["policy"], times.shown(one["at"]))
    Console().print(table)
