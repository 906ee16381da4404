"""PUT and GET next to the ways in which people write them today, in one run.

CPU is that of the web processes alone. No worker runs for anybody, which spares the task for each write its other
half. MongoDB is the embedded server, or what TEST_MONGODB_URL names.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from bench.http import FLOOR, OURS, Way, compare, contending, gunicorn
from bench.rows import Row, command
from writebehind.local.embedded import EmbeddedMongo

FLOOR_THERE: Way = ("bare Flask, gunicorn", gunicorn, "bench.bare:create_app")
DELAYING: Way = ("set + task.delay, gunicorn", gunicorn, "bench.today:set_and_delay")
THROUGH: Way = ("write-through, gunicorn", gunicorn, "bench.today:write_through")
ASIDE: Way = ("cache-aside, gunicorn", gunicorn, "bench.today:cache_aside")


def main() -> list[Row]:
    """Compare all in writing; reading is the same in the ways of today, by cache-aside."""
    with (
        _mongodb() as url,
        contending(FLOOR, OURS, FLOOR_THERE, DELAYING, THROUGH, ASIDE, mongodb_url=url) as all_,
    ):
        return [*compare(all_, "PUT"), *compare([*all_[:3], all_[-1]], "GET")]


@contextmanager
def _mongodb() -> Iterator[str]:
    """The address of a MongoDB."""
    if url := os.environ.get("TEST_MONGODB_URL"):
        yield url
        return
    with tempfile.TemporaryDirectory() as directory, EmbeddedMongo(directory) as server:
        yield server.url


if __name__ == "__main__":
    command("peers", main, __doc__)
