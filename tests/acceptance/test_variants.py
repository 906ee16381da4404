"""A few of the tests of this package where servers fork after loading, Redis speaks TLS, and documents are larger.

`make variants` runs all of them so.
"""

from __future__ import annotations

from collections.abc import Iterator

import psutil
import pytest

from tests.acceptance.conftest import SETTINGS, System, in_threads, start
from tests.acceptance.test_pipeline import (
    test_a_killed_web_process_is_replaced,
    test_a_worker_killed_in_the_middle_of_its_writes,
    test_a_write_is_read_at_once_and_persisted_soon,
    test_no_increment_is_lost_or_counted_twice,
)
from tests.acceptance.test_reading import test_stale_while_revalidate
from tests.acceptance.variants import LARGE, PARTS, WEB_PROCESSES, WORKER_PROCESSES
from tests.tiers import long

__all__ = [
    "test_a_killed_web_process_is_replaced",
    "test_a_worker_killed_in_the_middle_of_its_writes",
    "test_a_write_is_read_at_once_and_persisted_soon",
    "test_no_increment_is_lost_or_counted_twice",
    "test_stale_while_revalidate",
]

pytestmark = [pytest.mark.acceptance, long]

READERS, READS = 16, 200


@pytest.fixture(scope="module")
def system(tmp_path_factory) -> Iterator[System]:
    """The system in all variants together."""
    directory = tmp_path_factory.mktemp("variants")
    lean = frozenset({"flower", "exporter"})
    with start(directory, variant=frozenset(PARTS), without=lean, **SETTINGS) as stack, System(stack) as system:
        system.wait_for_workers()
        yield system


def test_each_answer_is_that_of_the_document_that_was_asked_for(system):
    """Many readers in several processes that were forked get what they ask for: from Redis, and from MongoDB."""
    written = system.put_all("mine", READERS * 10)
    found: list[tuple[str, str, int, int]] = []

    def read(reader: int) -> None:
        for turn in range(READS):
            one = f"mine{(reader * 7 + turn) % len(written)}"
            answer = system.http.get(f"/v1/users/{one}").raise_for_status().json()
            found.append((one, answer["_id"], answer["n"], len(answer["fill"])))

    in_threads(READERS, read)
    system.wait_until_drained()

    assert READERS * READS == len(found)
    assert [] == [one for one in found if one != (one[0], one[0], int(one[0].removeprefix("mine")), LARGE)]
    assert written == system.stored_versions("mine")


def test_it_is_what_it_says(system):
    """The processes have as many children as they should, and look for Redis behind TLS."""
    pids = system.stack.pids()
    for name, count in (("web", WEB_PROCESSES), ("worker", WORKER_PROCESSES)):
        process = psutil.Process(pids[name])
        assert count == len(process.children(recursive=True))
        assert process.environ()["REDIS_URL"].startswith("rediss://")
