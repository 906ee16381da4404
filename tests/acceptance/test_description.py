"""The running system is what its description says: requests are made from that, right ones and wrong ones."""

from __future__ import annotations

import subprocess
import sysconfig
from pathlib import Path

import pytest

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


def test_every_operation(system, tmp_path):
    """No answer is an error of the server, and none has a status, a form or a header that is not described."""
    done = subprocess.run(
        [
            *(SCHEMATHESIS, "run", f"{system.stack.url}/openapi.json", "--checks", ",".join(CHECKS)),
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
    assert system.http.get("/healthz").is_success
