"""A few failovers of each topology, under load."""

from __future__ import annotations

import logging

import pytest

from tests.chaos.failovers.run import run, system
from tests.chaos.failovers.topologies import TOPOLOGIES
from tests.tiers import long

log = logging.getLogger(__name__)

#: `python -m tests.chaos.failovers` has many, and repeats a seed.
SEED, FAILOVERS = 3, 2


@long
@pytest.mark.acceptance
@pytest.mark.timeout(400)
@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_what_is_promised_outlives_failovers(tmp_path, topology):
    """Primaries are killed, frozen and replaced: what replicas have confirmed is there, and no read is stale."""
    with system(tmp_path, topology) as on:
        report = run(on, topology, SEED, FAILOVERS, lambda done: log.info("%d failovers", done))

    log.info("%s", report)
    assert [] == report.violations, f"--topology {topology} --seed {SEED} repeats it"
    assert report.answers["replicated"] > 50
    assert report.answers["read"] > 50
