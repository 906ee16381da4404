"""The worker and beat processes, by Celery's own commands, which import nothing from the current directory."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from celery import signals
from celery.bin.celery import celery

from tasks.celery import app, runtime
from tasks.logs import keep_short
from writebehind.logs.states import StateLog
from writebehind.tracing.export import export_spans


def worker(arguments: Sequence[str]) -> None:
    """Run `celery worker` with these options."""
    export = export_spans("worker")
    signals.worker_init.connect(lambda **_: export.count_in(runtime.pipeline.tallies), weak=False)
    for over in (signals.worker_shutdown, signals.worker_process_shutdown):
        over.connect(lambda **_: export.end(), weak=False)  # the second in each child, where the pool forks
    command("-q", "worker", *arguments, redis=lambda: runtime.pipeline.redis_outage)


def beat(arguments: Sequence[str]) -> None:
    """Run `celery beat` with these options; its schedule is the one of the settings, and kept in no file."""
    command("-q", "beat", "--scheduler", "tasks.beating:Scheduler", *arguments)


def command(*words: str, redis: Callable[[], StateLog] | None = None) -> None:
    """Run a command of Celery's.

    Args:
        words: of the command.
        redis: as `keep_short` takes it; of no account where the broker is another server.

    Raises:
        SystemExit: it ends with this status.
    """
    keep_short(None if runtime.settings.broker_url else redis)
    # As `Celery.start` does, which loses the status. `-A` would import from the current directory first.
    celery.params[0].default = app
    sys.exit(celery.main(args=list(words), prog_name="writebehind run", standalone_mode=False))
