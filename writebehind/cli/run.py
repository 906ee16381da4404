"""`writebehind up` and `writebehind demo`: the whole system on this machine; `writebehind run`: one process."""

from __future__ import annotations

import json
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from writebehind.launcher import PROCESSES, begin_log, launch
from writebehind.settings.urls import redacted

#: Processes that have no options, and what each does.
_WITHOUT_OPTIONS = {"web": "Serve the API.", "exporter": "Serve metrics to Prometheus."}


@click.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="Port of the API; 0 for any free one.  [default: the setting `port`]",
)
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=".writebehind",
    show_default=True,
    help="Where the embedded servers keep their data, and the logs are.",
)
@click.option(
    "--procfile",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Run the processes of this file instead of the API, the workers, beat and Flower.",
)
@click.option(
    "--servers-only",
    is_flag=True,
    help="Run the embedded servers and no process: for commands that want all processes stopped.",
)
@click.option(
    "--appendfsync",
    type=click.Choice(["everysec", "always"]),
    default="everysec",
    show_default=True,
    help="How often the embedded Valkey has its writes on disk.",
)
@click.option("--quiet", is_flag=True, help="What the processes print goes to files in the data directory's log/.")
@click.option(
    "--json", "as_json", is_flag=True, help="Once ready, print one line of JSON; all else goes to stderr."
)
def up(as_json: bool, **options: Any) -> None:
    """Run the whole system on this machine until Ctrl-C.

    Where REDIS_URL and MONGODB_URL are set, those servers are used; where neither is, embedded ones are started.
    """
    from writebehind.local.output import SUPERVISOR  # noqa: PLC0415 - other commands do not need it
    from writebehind.local.up import Options, up  # noqa: PLC0415 - as above

    console = sys.stderr if as_json else sys.stdout  # themselves, not what stands in their place from here on
    lines = begin_log(SUPERVISOR)

    def announce(about: dict[str, Any]) -> None:
        with suppress(OSError, ValueError):  # nobody reads any more: no reason to end
            click.echo(_announced(about, as_json=as_json, lines=lines), sys.__stdout__)

    former = os.umask(0o077)  # documents are in what the servers and processes write
    try:
        up(Options(console=console, **options), announce)
    finally:
        os.umask(former)
    if any(thread.name == "announce" for thread in threading.enumerate()):
        os._exit(0)  # nobody takes what it says, and Python would wait for that


@click.command()
@click.option("--documents", type=click.IntRange(50, 30_000), default=5_000, show_default=True, help="How many.")
@click.option(
    "--clients", type=click.IntRange(1, 64), default=8, show_default=True, help="Threads that write at once."
)
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed sends the same data.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port of the API.  [default: any free one]")
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    help="Run in this directory, empty or new, and leave it there.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON; all else goes to stderr.")
def demo(as_json: bool, **options: Any) -> None:
    """Send real data through the system, and check MongoDB.

    What it has must be what was acknowledged.
    The servers are its own, in a scratch directory, whatever REDIS_URL and MONGODB_URL say. The exit status is 0
    only if every document is as acknowledged, and nothing is pending or dead.
    """
    from writebehind import demo as demonstration  # noqa: PLC0415 - other commands do not need it, nor its packages

    console = sys.stderr if as_json else sys.stdout
    try:
        result = demonstration.demo(demonstration.Options(console=console, **options))
    except demonstration.InterruptedDemoError as error:
        click.echo(f"writebehind: {error}", err=True)
        sys.exit(130)
    if as_json:
        click.echo(json.dumps(result.as_dict()))
    else:
        demonstration.show(result, console)
    sys.exit(0 if result.good else 1)


@click.command(context_settings={"allow_interspersed_args": False})
@click.argument("process", type=click.Choice(sorted(PROCESSES)))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run(process: str, arguments: tuple[str, ...]) -> None:
    """Run the API, a worker, beat, the exporter, or Flower.

    Each is one process of the service.

    ARGUMENTS are options of the process's own: of `celery worker`, `celery beat` and `celery flower`. What is
    imported is the service's own, whatever the current directory has.
    """
    # The others have options, and a help, of their own.
    if {*arguments} & {"--help", "-h"} and process in _WITHOUT_OPTIONS:
        what = _WITHOUT_OPTIONS[process]
        click.echo(
            f"Usage: writebehind run {process}\n\n  {what} It has no options, but settings: writebehind settings"
        )
        return
    launch(process, arguments)


def _announced(about: dict[str, Any], *, as_json: bool, lines: str) -> str:
    """The words of `up` once it is ready, in the format of its log lines."""
    if as_json:
        return json.dumps(about)
    if lines != "json":
        return announcement(about)
    from writebehind.local import output  # noqa: PLC0415 - as above

    shown = {name: value for name, value in about.items() if name != "process"}  # that is the line's own
    return output.object_line(output.SUPERVISOR, "info", "writebehind is ready", event="ready", **shown)


def announcement(about: dict[str, Any]) -> str:
    """The banner of `up`, once everything runs."""
    embedded = {name: f"  ({title}, embedded)" for name, title in about["embedded"].items()}
    rows = {
        "API": about.get("url"),
        "Console": about.get("console"),
        "API docs": about.get("docs"),
        "Status": about.get("status"),
        "Flower": about.get("flower"),
        "Metrics": about.get("metrics"),
        "Redis": redacted(about["redis_url"]) + embedded.get("redis", ""),
        "MongoDB": redacted(about["mongodb_url"]) + embedded.get("mongodb", ""),
        "Database": about["mongodb_database"],
        "Data": about["data_dir"],
    }
    failing = {f"! {name}": f"fails whenever it is started: {why}" for name, why in about["failing"].items()}
    lines = [f"  {name:<9} {value}" for name, value in (rows | failing).items() if value]
    if "example" in about:
        example = f"""curl -X PUT {about["example"]} -H 'Content-Type: application/json' -d '{{"name": "Ada"}}'"""
        lines += ["", f"  {example}"]
    return "\n".join(["", "writebehind is ready", "", *lines, "", "Ctrl-C stops everything.", ""])
