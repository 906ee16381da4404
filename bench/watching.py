"""The HTTP hot path with everything counted, next to the same without, in one run."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from bench.http import as_web_does, compare, contending
from web.counting import Requests
from web.server import ServerApplication, create_server
from writebehind.reading.reader import Reader
from writebehind.tallies.tallies import Tallies

#: Longer than the others: a percent is looked for.
SECONDS = 3


def create_uncounted() -> ServerApplication:
    """The application as `writebehind run web` serves it, which counts nothing."""

    def nothing(*_: Any, **__: Any) -> None:
        pass

    for name in ("begin", "end", "answered", "refused"):
        setattr(Requests, name, nothing)
    Reader._noted = lambda _, read, *__: read  # type: ignore[method-assign]
    Reader._count_reads = nothing  # type: ignore[method-assign]
    Tallies.add = nothing  # type: ignore[method-assign]
    Tallies.observe = nothing  # type: ignore[method-assign]
    return create_server()


def create_counted() -> ServerApplication:
    """The application with its counts in a file, as they are in production."""
    import os  # noqa: PLC0415 - only this process's environment is changed

    os.environ["WRITEBEHIND_METRICS_DIR"] = str(Path(tempfile.mkdtemp()) / "counts")
    return create_server()


def main() -> None:
    """Compare them."""
    with contending(
        ("not counted", as_web_does, "bench.watching:create_uncounted"),
        ("counted", as_web_does, "bench.watching:create_counted"),
        ("not counted, once more", as_web_does, "bench.watching:create_uncounted"),
        seconds=SECONDS,
    ) as contenders:
        for method in ("PUT", "GET"):
            compare(contenders, method)


if __name__ == "__main__":
    main()
