"""A document that is there, and ways to ask for it."""

from __future__ import annotations

import pytest

from tests.unit.web.conftest import client_of

ADA = {"name": "Ada", "born": {"$date": "1985-12-10T00:00:00Z"}}
OID = "5f43a1b2c3d4e5f601234567"

MERGE = "application/merge-patch+json"

WRONG = '"' + "0" * 32 + '"'


@pytest.fixture(params=["flask", "hot"])
def client(installation, request, monkeypatch):
    """Whatever is said of documents holds by Flask alone, and with what is before it."""
    return client_of(installation, request.param, monkeypatch)


@pytest.fixture
def ada(client):
    """A document, and the answer to the write that made it."""
    return client.put("/v1/users/ada", json=ADA)


def document(client, path: str = "/v1/users/ada") -> dict:
    return client.get(path).json


def cache_status(client, path: str = "/v1/users/ada") -> str:
    return client.get(path).headers["Cache-Status"]


@pytest.fixture
def old(client):
    """A document for the writes that need one."""
    return client.put("/v1/users/old", json={}).json
