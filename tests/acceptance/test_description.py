"""The running system is what its description says: requests are made from that, right ones and wrong ones."""

from __future__ import annotations

import json
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.acceptance.conftest import IN_CITY
from tests.acceptance.servers import WebServer, web_server
from tests.tiers import cases

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(480)]

SCHEMATHESIS = Path(sysconfig.get_path("scripts")) / "schemathesis"
#: Which refusals are right, besides those that it knows itself.
REFUSALS = Path(__file__).with_name("schemathesis.toml")
KEY = f"wb_{'0' * 12}_{'k' * 43}"
#: Requests for each operation that are made up, and in which ways. Those at the bounds of parameters (coverage)
#: take most; tests of single requests have bounds too, and see that the status of each answer is described.
EXAMPLES = {"few": (3, "examples,fuzzing,stateful"), "many": (30, "examples,coverage,fuzzing,stateful")}


@pytest.fixture
def server(system) -> Iterator[WebServer]:
    """A web process with data of its own, as nothing that is made up should be in the way of other tests."""
    own = urlsplit(system.stack.redis_url)._replace(path="/5").geturl()
    people = {
        "WRITEBEHIND_COLLECTIONS__people__lookup__name": "string",
        "WRITEBEHIND_COLLECTIONS__people__queries": json.dumps({"in_city": IN_CITY}),
    }
    with web_server(
        system, REDIS_URL=own, MONGODB_DATABASE="described", WRITEBEHIND_ROOT_KEY=KEY, **people
    ) as served:
        yield served


@pytest.mark.parametrize(("most_examples", "phases"), cases(EXAMPLES, {"few"}))
def test_every_operation(server, tmp_path, most_examples, phases):
    """No answer is an error of the server, and none has a status, a form or a header that is not described.

    Requests are made with a key, and without it where one is asked for; and one after another, each with what
    answers before it have said.
    """
    done = subprocess.run(
        [
            *(SCHEMATHESIS, "--config-file", REFUSALS, "--no-color"),
            *("run", f"http://127.0.0.1:{server.port}/openapi.json", "--checks", "all"),
            *("--phases", phases, "--max-examples", str(most_examples)),
            *("--header", f"Authorization: Bearer {KEY}", "--generation-deterministic", "--warnings", "off"),
            *("--suppress-health-check", "all", "--request-timeout", "20", "--continue-on-failure"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == done.returncode, done.stdout + done.stderr
    assert server.http.get("/healthz").is_success
