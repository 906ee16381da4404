"""What looks whether each answer is described: it finds the ones that are not, whatever their status."""

from __future__ import annotations

import httpx
import orjson
import pytest
from flask import Response

from tests.described import InProcess, OverHttp


@pytest.mark.parametrize(
    ("path", "status", "found"),
    [
        ("/v1/users/ada", 401, []),
        ("/v1/users/ada", 429, []),
        ("/v1/users/ada", 418, ["get /v1/{collection}/{id}: 418"]),
        ("/readyz", 401, ["get /readyz: 401"]),
        ("/healthz", 429, ["get /healthz: 429"]),
        ("/metrics", 403, []),
    ],
)
def test_in_process(installation, path, status, found):
    """Statuses of access are those of routes that ask for it."""
    seen = InProcess()
    with installation.app.test_request_context(path):
        seen(installation.app, Response(status=status))
    assert found == seen.undescribed


@pytest.mark.parametrize(
    ("method", "path", "status", "is_described"),
    [
        ("GET", "/healthz", 200, True),
        ("GET", "/healthz", 404, False),
        ("GET", "/healthz", 401, False),
        ("PUT", "/healthz", 405, True),
        ("PUT", "/healthz", 200, False),
        ("GET", "/nothing", 404, True),
        ("GET", "/nothing", 200, False),
        ("GET", "/console/page.js", 200, True),
    ],
)
def test_over_http(client, method, path, status, is_described):
    """A path or method that is not described is answered so; one that is has the statuses that it names."""
    description = orjson.dumps(client.get("/openapi.json").json)

    def answer(request: httpx.Request) -> httpx.Response:
        is_asked = request.url.path == "/openapi.json"
        return httpx.Response(200, content=description) if is_asked else httpx.Response(status)

    with httpx.Client(transport=httpx.MockTransport(answer), base_url="http://server") as http:
        http.event_hooks = {"response": [OverHttp(http)]}
        if is_described:
            http.request(method, path)
            return
        with pytest.raises(AssertionError, match=f"{path}: {status} is not described"):
            http.request(method, path)
