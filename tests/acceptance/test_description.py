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

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]

SCHEMATHESIS = Path(sysconfig.get_path("scripts")) / "schemathesis"
#: What holds of every answer. A request that fits the description may still be refused, as ids have types.
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "allow_header_conformance",
    "unsupported_method",
]
#: Requests for each operation that are made up, besides those at the bounds of each of its parameters.
MOST_EXAMPLES = 5


@pytest.fixture
def server(system) -> Iterator[WebServer]:
    """A web process with data of its own, as nothing that is made up should be in the way of other tests."""
    own = urlsplit(system.stack.redis_url)._replace(path="/5").geturl()
    people = {
        "WRITEBEHIND_COLLECTIONS__people__lookup__name": "string",
        "WRITEBEHIND_COLLECTIONS__people__queries": json.dumps({"in_city": IN_CITY}),
    }
    with web_server(system, REDIS_URL=own, MONGODB_DATABASE="described", **people) as served:
        yield served


def test_every_operation(server, tmp_path):
    """No answer is an error of the server, and none has a status, a form or a header that is not described."""
    done = subprocess.run(
        [
            *(SCHEMATHESIS, "run", f"http://127.0.0.1:{server.port}/openapi.json", "--checks", ",".join(CHECKS)),
            *("--phases", "examples,coverage,fuzzing", "--max-examples", str(MOST_EXAMPLES)),
            *("--generation-deterministic", "--no-color", "--warnings", "off"),
            *("--suppress-health-check", "all", "--request-timeout", "20", "--continue-on-failure"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == done.returncode, done.stdout + done.stderr
    assert server.http.get("/healthz").is_success
