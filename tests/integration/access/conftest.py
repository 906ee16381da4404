"""Who makes keys, and a client that sends them."""

from __future__ import annotations

import json

import pytest

from web.app import create_app
from writebehind.access import keyring as keyrings
from writebehind.operations.api_keys import KeyOffice

ROUTES = [
    ("GET", "/v1/users/ada", None, "users:read"),
    ("HEAD", "/v1/users/ada", None, "users:read"),
    ("GET", "/v1/users?email=x", None, "users:read"),
    ("POST", "/v1/users:get", {"ids": ["ada"]}, "users:read"),
    ("PUT", "/v1/users/ada", {"n": 1}, "users:write"),
    ("PATCH", "/v1/users/ada", {"n": 1}, "users:write"),
    ("DELETE", "/v1/users/ada", None, "users:write"),
    ("POST", "/v1/users", {"n": 1}, "users:write"),
    ("POST", "/v1/users/ada:increment", {"n": 1}, "users:write"),
    ("POST", "/v1/users:bulk", [], "users:write"),
    ("GET", "/admin/status", None, "admin"),
    ("GET", "/admin/keys", None, "admin"),
    ("GET", "/admin/dead-letters", None, "admin"),
    ("GET", "/metrics", None, "admin"),
]


GRANTS = ["users:read", "users:write", "pages:read,write", "admin", "*:read", "*:write"]


@pytest.fixture
def office(pipeline) -> KeyOffice:
    return KeyOffice(pipeline.store.api_keys, pipeline.keyring)


@pytest.fixture
def client(pipeline, monkeypatch):
    monkeypatch.setattr(keyrings, "FRESH_S", 0)  # each request knows what was done just before
    return create_app(pipeline).test_client()


def ask(client, method, path, body, token=""):
    headers = {"Content-Type": "application/merge-patch+json" if method == "PATCH" else "application/json"}
    headers |= {"Authorization": f"Bearer {token}"} if token else {}
    return client.open(path, method=method, data=None if body is None else json.dumps(body), headers=headers)


def is_allowed(answer) -> bool:
    return answer.status_code not in {401, 403}
