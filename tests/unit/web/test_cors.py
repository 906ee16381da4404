"""Pages of other origins, where the settings name them: what they may do, and what they may read."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from tests.unit.web.conftest import Installation
from web.app import create_app
from writebehind import load_settings
from writebehind.errors import ConfigurationError

ORIGIN, OTHER = "https://app.example.com", "https://evil.example.com"
#: What Chromium sends with a request of a page of another site.
OF_A_PAGE = {"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site"}
PATHS = ["/v1/users/ada", "/v1/users", "/v1/users:bulk", "/v1/users/ada:increment", "/openapi.json"]
OURS = ["/admin/status", "/admin/keys", "/admin/dead-letters:replay", "/console", "/metrics", "/healthz", "/"]


def allowed(answer) -> dict[str, str]:
    """What an answer tells browsers of other origins."""
    return {name: value for name, value in answer.headers.items() if name.startswith("Access-Control-")}


@pytest.fixture
def shared(application: Installation, monkeypatch):
    """A client of an application that pages of an origin may use."""
    application.clear()
    pipeline = application.pipeline
    settings = pipeline.settings.model_copy(update={"cors_origins": [ORIGIN]})
    monkeypatch.setattr(pipeline, "settings", settings)
    return create_app(pipeline).test_client()


@pytest.mark.parametrize("origin", [ORIGIN, "https://APP.example.com", f"{ORIGIN}.evil.example"])
def test_an_origin_is_the_same_for_reads_and_writes(shared, origin):
    """As browsers send it, in small letters: one that may write nothing is told nothing."""
    page = {"Origin": origin, "Sec-Fetch-Site": "cross-site"}
    is_ours = origin == ORIGIN
    assert is_ours == (403 != shared.put("/v1/users/ada", json={}, headers=page).status_code)
    assert is_ours == bool(allowed(shared.get("/v1/users/ada", headers=page)))


@pytest.mark.parametrize("path", PATHS + OURS)
def test_nobody_else_is_told_anything(client, path):
    """Unless the settings name an origin, no answer has a word for other pages."""
    asked = {"Access-Control-Request-Method": "PUT", "Origin": ORIGIN}
    assert {} == allowed(client.options(path, headers=asked)) == allowed(client.get(path, headers=OF_A_PAGE))


@pytest.mark.parametrize("path", PATHS)
def test_a_browser_asks_before(shared, path):
    """Whatever a page may send, with which headers, and for how long that is so."""
    asked = {
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "authorization, idempotency-key",
    }
    answer = shared.options(path, headers=OF_A_PAGE | asked)

    told = allowed(answer)
    assert 200 == answer.status_code
    assert ORIGIN == told["Access-Control-Allow-Origin"]
    assert "Access-Control-Allow-Credentials" not in told
    assert {"GET", "HEAD", "PUT", "POST", "PATCH", "DELETE"} == set(
        told["Access-Control-Allow-Methods"].split(", ")
    )
    assert {"authorization", "idempotency-key"} == set(told["Access-Control-Allow-Headers"].lower().split(", "))
    assert "600" == told["Access-Control-Max-Age"]


def test_its_pages_read_and_write(shared):
    """Also errors, whose problems they can read."""
    written = shared.put("/v1/users/ada", json={"n": 1}, headers=OF_A_PAGE)
    read = shared.get("/v1/users/ada", headers=OF_A_PAGE)
    none = shared.get("/v1/users/nobody", headers=OF_A_PAGE)

    assert [200, 200, 404] == [one.status_code for one in (written, read, none)]
    for one in (written, read, none):
        assert ORIGIN == one.headers["Access-Control-Allow-Origin"]
        assert {"ETag", "Retry-After", "X-Request-Id"} <= set(
            one.headers["Access-Control-Expose-Headers"].split(", ")
        )
    assert {"Accept", "Origin"} == {word for line in read.headers.getlist("Vary") for word in line.split(", ")}


@pytest.mark.parametrize(
    "origin", [OTHER, "null", ORIGIN + ".evil.example", "http://app.example.com", ORIGIN + ":8443"]
)
def test_no_other_page_does(shared, origin):
    """What it is not told, its browser does not let it read, and what it sends is not carried out."""
    of_another = OF_A_PAGE | {"Origin": origin}

    written = shared.put("/v1/users/ada", json={"n": 1}, headers=of_another)
    read = shared.get("/v1/users/ada", headers=of_another)

    assert [403, 404] == [written.status_code, read.status_code]
    assert "Origin" in read.headers["Vary"]
    assert {} == allowed(written) == allowed(read)


@pytest.mark.parametrize("path", OURS)
def test_what_is_for_operators_is_for_no_other_page(shared, path):
    """Nor does it change anything there by what needs no question before."""
    asked = {"Access-Control-Request-Method": "POST"}
    assert {} == allowed(shared.options(path, headers=OF_A_PAGE | asked))
    assert {} == allowed(shared.get(path, headers=OF_A_PAGE))


@pytest.mark.parametrize("path", ["/admin/dead-letters:replay?all=true", "/admin/keys"])
def test_what_is_for_operators_is_changed_by_no_other_page(shared, path):
    """It is 403, with any type."""
    for content_type in ("text/plain", "application/json"):
        answer = shared.post(path, data="{}", content_type=content_type, headers=OF_A_PAGE)
        assert 403 == answer.status_code
        assert {} == allowed(answer)


@pytest.mark.parametrize(
    "origin",
    ["*", "app.example.com", "https://app.example.com/", "https://App.example.com", "null", "", "https://*.x"],
)
def test_what_is_no_origin_is_refused(origin):
    """It names the setting."""
    with pytest.raises((ConfigurationError, ValidationError), match="cors_origins"):
        load_settings(cors_origins=[origin])


@pytest.mark.parametrize("path", PATHS + OURS + ["/nothing", "/v1/users/nobody"])
def test_each_answer_has_a_name_and_is_what_its_type_says(client, path):
    """Documents are whatever clients wrote: no browser may take one for a page or a script."""
    for answer in (client.get(path), client.options(path), client.delete(path)):
        assert "nosniff" == answer.headers["X-Content-Type-Options"]
        if not path.startswith("/console"):
            assert answer.headers["X-Request-Id"]


@pytest.mark.parametrize("path", ["/admin/status", "/admin/keys", "/admin/conflicts", "/admin/nothing"])
def test_nobody_keeps_what_is_for_operators(client, path):
    """Nor a cache on the way."""
    answer = client.get(path)
    assert "no-store" == answer.headers.get("Cache-Control") or answer.status_code == 404
