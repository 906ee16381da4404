"""`writebehind pause` and `writebehind resume`: flushing, as for an upgrade of MongoDB."""

from __future__ import annotations

import click
import orjson

from writebehind.cli.durations import Duration
from writebehind.cli.installation import opened
from writebehind.operations.pausing import pause as pause_flushing
from writebehind.operations.pausing import resume as resume_flushing
from writebehind.redis.shared.pauses import Paused, told

_of_collection = click.option("--collection", metavar="NAME", help="Of this collection alone. By default of all.")
_as_json = click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")


@click.command()
@_of_collection
@click.option("--for", "for_s", type=Duration(), help="Go on by itself after this time, such as 30m.")
@_as_json
def pause(collection: str | None, for_s: float | None, as_json: bool) -> None:
    """Stop flushing to MongoDB, as while that is upgraded.

    Writes are acknowledged meanwhile, until the caps. Workers know it within two seconds, and end the batch that
    they write. It outlives all processes: `writebehind resume` ends it. What is paused already gets the new end.
    """
    with opened(checked=True) as pipeline:
        paused = pause_flushing(pipeline, collection, for_s=for_s)
    if as_json:
        click.echo(orjson.dumps({"paused": paused.as_list()}))
    else:
        click.echo(_told(paused))


@click.command()
@_of_collection
@_as_json
def resume(collection: str | None, as_json: bool) -> None:
    """Let flushing to MongoDB go on.

    By default of all that is paused. Where nothing is paused it changes nothing, and says so.
    """
    with opened(checked=True, asking=True) as pipeline:
        done = resume_flushing(pipeline, collection)
    if as_json:
        click.echo(orjson.dumps({"resumed": done.ended.as_list(), "paused": done.paused.as_list()}))
        return
    if not done.ended:
        click.echo(f"{collection or 'nothing'} was {'not ' if collection else ''}paused", err=True)
    for one in done.ended:
        click.echo(f"flushing of {one.as_dict()['collection'] or 'all collections'} goes on")
    if done.paused:
        click.echo(_told(done.paused))


def _told(paused: Paused) -> str:
    return told(paused.as_list())
