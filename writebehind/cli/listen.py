"""`writebehind listen` and `writebehind conflicts`: living beside other writers."""

from __future__ import annotations

import logging
import signal
from contextlib import suppress
from datetime import UTC, datetime

import click
import orjson
from rich.console import Console
from rich.table import Table

from writebehind import connect
from writebehind.change_stream.conflicts import MOST
from writebehind.cli.columns import columns
from writebehind.cli.installation import opened
from writebehind.errors import RedisUnavailableError


@click.command()
def listen() -> None:
    """Listen to MongoDB's change stream, and drop from the cache what others have changed.

    Several may run: one leads, and another takes over when it ends. Runs until it is told to end.
    """
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    with connect() as pipeline:
        with suppress(RedisUnavailableError):  # it is waited for
            pipeline.check()
        listener = pipeline.listener()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: listener.stop())
        listener.listen(click.echo)


@click.command()
@click.option("--limit", type=click.IntRange(1, MOST), default=100, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One line of JSON for each, with both documents.")
def conflicts(limit: int, as_json: bool) -> None:
    """List changes of others to documents of which a newer state was pending, the latest first."""
    with opened(checked=True) as pipeline:
        found = pipeline.conflicts.latest(limit)
    if as_json:
        for one in found:
            click.echo(orjson.dumps(one))
        return
    table = Table(*columns("document", "they did", "what stands", "found at"))
    for one in found:
        at = datetime.fromtimestamp(one["at"], UTC).isoformat(" ", "seconds")
        table.add_row(f"{one['collection']}/{one['id']}", one["operation"], one["policy"], at)
    Console().print(table)
