"""Addresses: one document has one path, another path leads to another document or nowhere."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.tiers import examples
from tests.unit.web.conftest import problem

#: What is not UTF-8: bytes that never occur, parts of a character, surrogates, and what is too long or too high.
NOT_UTF_8 = ["%FE", "%FF", "%C3", "%80", "a%E2%98", "%ED%A0%80", "%C0%AF", "%F8%88%80%80%80", "%F4%90%80%80"]


@given(text=st.text(min_size=1, max_size=20))
@settings(max_examples=examples(200), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_location_leads_to_the_document(client, text):
    """Whatever an `id_pattern` allows, the Location of a new document leads to it, or it is refused."""
    response = client.post("/v1/free", json={"_id": text, "text": text})
    if response.status_code == 412:  # an example that came before
        return
    if "/" in text or text in {".", ".."}:
        problem(response, 400, "invalid-id")
        return
    assert 201 == response.status_code
    assert {"_id": text, "text": text} == client.get(response.headers["Location"]).json


@pytest.mark.parametrize("name", ["a/b", "..", "."])
def test_a_document_that_no_path_leads_to(client, name):
    """A document that only a bulk can name is found by its value, without an address that would lead elsewhere."""
    client.post("/v1/open:bulk", json=[{"op": "put", "id": name, "doc": {"username": "ada"}}])
    response = client.get("/v1/open?username=ada")
    assert name == response.json["_id"]
    assert "Content-Location" not in response.headers


@pytest.mark.parametrize("text", NOT_UTF_8)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_a_path_that_is_not_utf_8(client, installation, method, text):
    """It names nothing, whatever ids match: of two such paths one would be taken for the other."""

    def answer_to(path: str):
        as_it_comes = {"PATH_INFO": unquote_to_bytes(path).decode("latin-1")}
        return client.open("/", method=method, json={} if method == "PUT" else None, environ_overrides=as_it_comes)

    for collection in ("free", "users", "numbers", "keys"):
        problem(answer_to(f"/v1/{collection}/{text}"), 400, "invalid-id")
    problem(answer_to(f"/v1/{text}/ada"), 404)
    problem(answer_to(f"/{text}"), 404)
    assert [] == installation.stored()


@pytest.mark.parametrize("text", [*NOT_UTF_8, "\xff", "\xc3"])
@pytest.mark.parametrize(
    "path", ["/v1/people?username=", "/v1/asked/queries/in_city?city=", "/admin/dead-letters?cursor="]
)
def test_a_query_string_that_is_not_utf_8(client, path, text):
    """It is refused: as text it would be another one, perhaps somebody's."""
    problem(
        client.get(path + text, environ_overrides={"QUERY_STRING": path.partition("?")[2] + text}),
        400,
        "bad-request",
    )


def test_text_in_a_query_string_is_what_it_is(client):
    """What looks like an escape is text once it is escaped itself."""
    client.put("/v1/people/ada", json={"username": "%FF"})
    client.put("/v1/people/bob", json={"username": "é ☃"})
    assert "ada" == client.get("/v1/people?username=%25FF").json["_id"]
    assert "bob" == client.get("/v1/people?username=%C3%A9+%E2%98%83").json["_id"]
