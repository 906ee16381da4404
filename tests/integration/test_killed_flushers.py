"""Flushers that are killed at any moment lose no count."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time

from tests.counts import adds_up
from tests.integration.conftest import environment
from tests.waiting import wait_until
from writebehind.local.supervisor import bound_to_parent
from writebehind.operations.drain import drain

#: Kills, seconds within which each comes once the flusher is at work, and writes that it has then at least.
KILLS, WITHIN_S, MANY = 6, 0.4, 11
FLUSHER = """
from writebehind import connect
pipeline = connect()
print("at work", flush=True)
while True:
    for partition in range(pipeline.settings.partitions):
        pipeline.flusher.flush(partition)
"""


def test_counts_are_what_happened(pipeline, settings):
    """Each write is counted when it is acknowledged, and once more when it is known what has become of it."""
    chance = random.Random(5)
    env = {**os.environ, **environment(settings), "WRITEBEHIND_LEASE_MS": "1000"}
    env |= {"WRITEBEHIND_DEFAULTS__FLUSH_DELAY_MS": "0", "WRITEBEHIND_MONGODB_TIMEOUT_MS": "400"}
    users, acknowledged = pipeline.collection("users"), 0
    command = bound_to_parent([sys.executable, "-c", FLUSHER])
    for kill in range(1, 1 + KILLS):
        with subprocess.Popen(command, env=env, stdout=subprocess.PIPE) as flusher:
            try:
                assert flusher.stdout is not None
                assert b"at work\n" == flusher.stdout.readline()
                until = time.monotonic() + chance.uniform(0, WITHIN_S)
                while time.monotonic() < until or acknowledged < kill * MANY:
                    users.put(f"u{chance.randrange(60)}", {"n": acknowledged})
                    acknowledged += 1
            finally:
                flusher.kill()
        totals = pipeline.status()
        assert acknowledged == totals["totals"]["acknowledged"]
        assert adds_up(totals["totals"], pending=totals["pending"]), totals

    wait_until(lambda: not drain(pipeline, timeout_s=5).pending, "everything to be persisted", 30)
    totals = pipeline.store.metrics.totals()
    assert acknowledged >= KILLS * MANY
    assert acknowledged == totals.by_name["persisted"] + totals.by_name["coalesced"]
    assert totals.by_name["persisted"] == sum(totals.ages)
    assert totals.by_name["operations"] >= totals.by_name["persisted"] + totals.by_name["overtaken"]
