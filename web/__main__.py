"""Serve the API: `python -m web`."""

from __future__ import annotations

import logging
import sys

from granian import Granian
from granian.constants import Interfaces

from tasks.enqueue import FlushHints
from web.app import check
from writebehind import connect, load_settings
from writebehind.errors import ConfigurationError


def main() -> None:
    """Run granian's WSGI server as the settings say."""
    try:
        settings = load_settings()
        # Here, as a worker that cannot start would be started again and again.
        FlushHints(settings).close()
        with connect(settings) as pipeline:
            check(pipeline)
    except ConfigurationError as error:
        sys.exit(f"writebehind: {error}")
    # More threads than cores are meant: most of them wait for Redis.
    logging.getLogger("_granian").addFilter(lambda record: "allows spawning up to" not in record.getMessage())
    Granian(
        "web.app:create_app",
        factory=True,
        interface=Interfaces.WSGI,
        address=settings.host,
        port=settings.port,
        workers=settings.web_workers,
        blocking_threads=settings.web_threads,
        respawn_failed_workers=True,
        websockets=False,
    ).serve()


if __name__ == "__main__":
    main()
