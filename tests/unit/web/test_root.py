"""The address that people and programs try first."""

from __future__ import annotations

import pytest

from tests.unit.web.conftest import problem

CHROMIUM = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"


@pytest.mark.parametrize("accept", [CHROMIUM, "text/html", "application/xhtml+xml,text/html;q=0.9"])
def test_a_browser_is_led_to_the_console(client, accept):
    """By an address relative to this one, as a proxy may have put something before it."""
    answer = client.get("/", headers={"Accept": accept})

    assert (303, "console", "Accept") == (answer.status_code, answer.headers["Location"], answer.headers["Vary"])
    assert (b"", None) == (answer.data, answer.headers.get("Content-Type"))  # as the description has it


@pytest.mark.parametrize(
    "headers", [{}, {"Accept": "*/*"}, {"Accept": "application/json"}, {"Accept": "image/png"}]
)
def test_a_program_is_told_where_things_are(client, headers):
    """Each place exists."""
    answer = client.get("/", headers=headers)

    assert (200, "application/json") == (answer.status_code, answer.content_type)
    told = answer.json
    assert {"name", "version", "api", "console", "description", "docs", "health", "ready", "status"} == told.keys()
    places = told.keys() - {"name", "version", "api"}
    assert dict.fromkeys(places, 200) == {one: client.get(f"/{told[one]}").status_code for one in places}
    assert client.get(f"/{told['api']}users/nobody").json["type"].endswith(":not-found")


@pytest.mark.parametrize("method", ["PUT", "POST", "PATCH", "DELETE"])
def test_nothing_can_be_written_there(client, method):
    """Every other method is refused."""
    problem(client.open("/", method=method), 405)


@pytest.mark.parametrize(
    "path", ["//", "//healthz", "///readyz", "//metrics", "//admin/keys", "//v1/users/ada", "//console"]
)
def test_no_further_slash_leads_to_a_route(client, path):
    """A proxy's rule for a path holds for all that leads there."""
    environ = {"PATH_INFO": path}
    problem(client.get("/", environ_overrides=environ), 404, "no-such-route")
    assert 404 == client.open("/", method="OPTIONS", environ_overrides=environ).status_code
