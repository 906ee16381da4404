"""The pipeline of a Flask application."""

from __future__ import annotations

import atexit
import logging
from collections.abc import Callable
from typing import Protocol

from flask import Flask, current_app

from writebehind import Collection, Pipeline, Settings, WritebehindError, connect
from writebehind.errors import ConfigurationError, UnavailableError
from writebehind.flask.configuration import settings_of
from writebehind.flask.problems import respond
from writebehind.operations.doctor import check_start
from writebehind.redis.cache import Refresh
from writebehind.redis.pending import Hint

log = logging.getLogger(__name__)

#: Where an application has its pipeline.
EXTENSION = "writebehind"


class Publisher(Protocol):
    """Publisher of flush tasks and refreshes, such as `writebehind.celery.FlushPublisher`."""

    def __call__(self, wanted: Hint | Refresh, /) -> None:
        """Take one; it neither blocks nor raises."""

    def close(self) -> None:
        """Publish what waits."""


class Writebehind:
    """The extension: a pipeline for each application that it is initialised with, in `app.extensions`.

    Errors of the pipeline that a view does not catch are answered as `application/problem+json`, unless the
    application has a handler of its own for them. The pipeline may be made before a server forks, and is closed
    when the process ends.
    """

    def __init__(
        self,
        app: Flask | None = None,
        *,
        publisher: Callable[[Settings], Publisher] | None = None,
        pipeline: Pipeline | None = None,
    ) -> None:
        """Prepare, and initialise an application that is given.

        Args:
            app: has `WRITEBEHIND_…` in its configuration: see `writebehind.flask.configuration`.
            publisher: makes what publishes flush tasks. Without one pending documents wait until the sweep finds
                them, and entries that are served stale are refreshed by a thread of this process.
            pipeline: is used instead of one of the configuration, as in a test; whoever made it closes it.

        Raises:
            ConfigurationError: as `init_app`.
        """
        self._publisher = publisher
        self._pipeline = pipeline
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> Pipeline:
        """Give an application its pipeline.

        Raises:
            ConfigurationError: a setting is wrong, Redis would lose data, or the application has a pipeline.
        """
        if EXTENSION in app.extensions:
            raise ConfigurationError("this application has a writebehind pipeline already: initialise it once")
        pipeline = self._pipeline or self._connected(settings_of(app.config))
        app.extensions[EXTENSION] = pipeline
        if WritebehindError not in app.error_handler_spec[None][None]:
            app.register_error_handler(WritebehindError, respond)
        return pipeline

    @property
    def pipeline(self) -> Pipeline:
        """That of the current application.

        Raises:
            KeyError: it was not initialised.
            RuntimeError: there is no current application.
        """
        found: Pipeline = current_app.extensions[EXTENSION]
        return found

    def collection(self, name: str) -> Collection:
        """The documents of a collection, by the pipeline of the current application.

        Raises:
            UnknownCollectionError: it is not configured.
        """
        return self.pipeline.collection(name)

    def _connected(self, settings: Settings) -> Pipeline:
        publisher = self._publisher(settings) if self._publisher is not None else None
        pipeline = connect(settings, hints=publisher, refreshes=publisher)
        check(pipeline)
        # In the order in which they end: closing a pipeline may publish.
        if publisher is not None:
            atexit.register(publisher.close)
        atexit.register(pipeline.close)
        return pipeline


def check(pipeline: Pipeline) -> None:
    """Refuse to start where Redis would lose data; a Redis that does not answer yet is only logged.

    Raises:
        ConfigurationError: it would, or it is divided differently.
    """
    try:
        for warning in check_start(pipeline):
            log.warning("%s: %s", warning.found, warning.advice)
    except UnavailableError as error:
        log.warning("cannot check Redis yet: %s", error)
