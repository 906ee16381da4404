"""The installation that a command acts on, and says so."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from writebehind.errors import ConfigurationError
from writebehind.last_known import LastKnown
from writebehind.pipeline import Pipeline, connect
from writebehind.redis.pending import HintSink
from writebehind.settings.installation import Settings
from writebehind.settings.running import DATA_DIR, METRICS, check_both_named, find

log = logging.getLogger(__name__)

#: How long MongoDB has to answer before a command begins, seconds.
PATIENCE_S = 4.0


def named(*, tell: bool = True, **overrides: Any) -> Settings:
    """The settings that a command works with; the servers in them are told on standard error.

    Args:
        tell: whether to tell.
        overrides: settings that the command decides, as for `load_settings`.

    Raises:
        ConfigurationError: a setting is wrong; only one of the two servers is named; or none is, and no system
            runs here. A Redis that happens to listen on the usual port may be anybody's.
    """
    found = find(**overrides)
    if found.origin == "defaults" and Path(DATA_DIR).is_dir():
        raise ConfigurationError(
            f"the system of this directory's {DATA_DIR}/ does not run: start it with `make run` or "
            f"`writebehind up`, or set REDIS_URL and MONGODB_URL{_waiting(Path(DATA_DIR))}"
        )
    if found.origin == "defaults":
        raise ConfigurationError(
            f"no server is named: set REDIS_URL and MONGODB_URL, or run this where `writebehind up` runs, "
            f"in the directory that has its {DATA_DIR}/"
        )
    if found.origin == "settings":
        check_both_named(found.settings, "so that no command acts on a server that nobody named")
    if tell:
        click.echo(f"on {found}", err=True)
    return found.settings


def _waiting(data_dir: Path) -> str:
    """The end of a message about documents in the file of a Redis that does not run; '' where none wait."""
    seen = LastKnown(data_dir / METRICS).latest()
    if seen is None or not seen.documents:
        return ""
    wait = "document waits" if seen.documents == 1 else "documents wait"
    return f". At least {seen.documents:,} {wait} in Redis's file in {data_dir}/redis: do not delete it ({seen})"


def opened(*, checked: bool = False, asking: bool = False, **overrides: Any) -> Pipeline:
    """A pipeline of these settings.

    Args:
        checked: whether to see that Redis belongs to the database of the settings, and has as many partitions as
            they say: else a command would act on documents of others, or find nothing where it looks.
        asking: whether to ask workers for the flushes that are wanted, as `asking_workers`.
        overrides: settings that the command decides, as for `load_settings`.

    Raises:
        ConfigurationError: as `named`; or Redis belongs to another database, or is divided otherwise.
        RedisUnavailableError: Redis does not answer; with `checked`.
    """
    with ExitStack() as undo:
        pipeline = undo.enter_context((asking_workers if asking else connect)(named(**overrides)))
        if checked:
            pipeline.store.check_recorded()
        undo.pop_all()
    return pipeline


def asking_workers(settings: Settings) -> Pipeline:
    """A pipeline that asks workers for the flushes that are wanted, until the command ends.

    Raises:
        ConfigurationError: as `connect`.
    """
    return connect(settings, hints=_publisher(settings))


def _publisher(settings: Settings) -> HintSink | None:
    """The way to ask for flushes; `None` where they have to be left to the sweep."""
    try:
        from writebehind.celery.publisher import FlushPublisher  # noqa: PLC0415 - an extra, and slow to import
    except ModuleNotFoundError:
        return None
    try:
        publisher = FlushPublisher(settings)
    except ConfigurationError as error:
        log.warning("flushes are left to the sweep: %s", error)
        return None
    click.get_current_context().call_on_close(publisher.close)
    return publisher


def check_mongodb(pipeline: Pipeline) -> None:
    """See that MongoDB answers: a command that turns out to have nothing to ask it would seem to be done.

    Raises:
        MongoUnavailableError: it does not.
    """
    pipeline.sink.ping(timeout_s=PATIENCE_S)
