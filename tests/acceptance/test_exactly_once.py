"""Increments with a key count once, although connections are cut at any byte and web processes are killed."""

from __future__ import annotations

import itertools
import logging
import random

import pytest

from tests.acceptance.conftest import System
from tests.chaos.increments.run import Plan, kill_a_web_process, run
from tests.tiers import long

log = logging.getLogger(__name__)

#: Of a plan whose time is over before.
NEVER_S = 3_600


def test_increments_come_out_exact(system: System):
    """Each client repeats each increment until it is answered: the sums are exact, in the API and in MongoDB."""
    plan = Plan(increments=240, clients=4, documents=3, cut=0.4, kill_every_s=NEVER_S)
    answered = itertools.count(1)

    def tell() -> None:
        if next(answered) == plan.increments // 2:
            kill_a_web_process(system.stack, random.Random(plan.seed))

    account = run(system.stack, plan, tell)

    assert ([], plan.increments) == (account.violations, account.answered)
    assert account.connections["answer"] > 10


@long
@pytest.mark.timeout(600)
def test_many_increments_come_out_exact(system: System):
    """As `make increments` has it, with fewer: a web process is killed again and again."""
    plan = Plan(increments=3_000, kill_every_s=2, seed=2)

    account = run(system.stack, plan)

    log.info("%s", account)
    assert ([], plan.increments) == (account.violations, account.answered)
    assert account.kills > 0
    assert account.connections["answer"] > 50
