"""The worker and beat processes, by Celery's own commands, which import nothing from the current directory."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import click
from celery import signals
from celery.bin.base import CLIContext

from tasks.celery import app, runtime
from tasks.logs import keep_short
from writebehind.logs.states import StateLog
from writebehind.tracing.export import export_spans


def worker(arguments: Sequence[str]) -> None:
    """Run `celery worker` with these options."""
    from celery.bin.worker import worker as of_celery  # noqa: PLC0415 - the other processes do not need it

    export = export_spans("worker")
    signals.worker_init.connect(lambda **_: export.count_in(runtime.pipeline.tallies), weak=False)
    for over in (signals.worker_shutdown, signals.worker_process_shutdown):
        over.connect(lambda **_: export.end(), weak=False)  # the second in each child, where the pool forks
    run(of_celery, arguments, redis=lambda: runtime.pipeline.redis_outage)


def beat(arguments: Sequence[str]) -> None:
    """Run `celery beat` with these options; its schedule is the one of the settings, and kept in no file."""
    from celery.bin.beat import beat as of_celery  # noqa: PLC0415 - as above

    run(of_celery, ["--scheduler", "tasks.beating:Scheduler", *arguments])


def run(command: click.Command, arguments: Sequence[str], *, redis: Callable[[], StateLog] | None = None) -> None:
    """Run a command of Celery's with our application, alone.

    The `celery` command loads all others, and those of packages that add theirs: a seventh of a worker's start.

    Args:
        command: `worker`, or one that Celery would find as a plugin.
        arguments: its options.
        redis: as `keep_short` takes it; of no account where the broker is another server.

    Raises:
        SystemExit: it ends with this status.
    """
    keep_short(None if runtime.settings.broker_url else redis)
    told = CLIContext(app=app, no_color=True, workdir=None, quiet=True)
    parent = click.Context(click.Group("run"), info_name="writebehind run", obj=told)
    # Not as `Celery.start` does, which loses the status and takes an application from the variable APP.
    sys.exit(command.main(list(arguments), prog_name=command.name, standalone_mode=False, parent=parent))
