"""Increments with a key count once, although connections are cut at any byte and web processes are killed."""

from __future__ import annotations

import itertools
import logging
import random

import httpx
import pytest

from tests.acceptance.conftest import System
from tests.chaos.increments.cutting import CuttingProxy
from tests.chaos.increments.run import Plan, kill_a_web_process, run
from tests.tiers import long
from writebehind import Pipeline, until_answered

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


def test_a_client_need_not_know_whether_it_has_happened(system: System):
    """The helper of the library repeats what was cut, over HTTP as in the library."""
    port = system.http.base_url.port

    with (
        CuttingProxy(port, 0.5, seed=3) as proxy,
        httpx.Client(base_url=f"http://127.0.0.1:{proxy.port}", headers={"Connection": "close"}) as http,
        Pipeline(system.settings.model_copy(update={"allow_unlisted": True})) as pipeline,
    ):
        users = pipeline.collection("users")

        def over_http(key: str) -> httpx.Response:
            return http.post("/v1/users/helped:increment", json={"n": 1}, headers={"Idempotency-Key": key})

        def in_the_library(key: str) -> int | float:
            done = users.increment("helped", {"n": 1}, key=key)
            if not done.written.replayed:
                raise ConnectionResetError
            return done.values["n"]

        counted = [until_answered(over_http).json()["values"]["n"] for _ in range(20)]
        counted += [until_answered(in_the_library) for _ in range(5)]

    assert [*range(1, 26)] == counted
    assert proxy.counts["answer"] > 3
    assert proxy.counts["request"] > 3


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
