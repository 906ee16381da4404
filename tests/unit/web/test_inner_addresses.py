"""What an answer says of a server that does not answer: not where it is, which is for the log."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient

import writebehind
from tests.unit.web.conftest import problem
from web.app import create_app
from writebehind import connect, load_settings
from writebehind.access.keyring import Keyring
from writebehind.errors import MongoUnavailableError
from writebehind.flask.extension import EXTENSION
from writebehind.flask.problems import REFUSALS

#: Ports of loopback on which nobody listens.
REDIS, MONGODB = "127.0.0.1:1", "127.0.0.1:2"


#: An unavailable server with the words of a driver or a server in what clients may read.
_REPEATS = re.compile(r"(?:Mongo|Redis)(?:Unavailable|Refuses)Error\(\s*f\"[^\n]*\{(?:error|[^}\n]*message|told)")


def test_no_error_repeats_a_driver_to_clients():
    """What a driver or a server says is for the log, and goes into an error as `inner`."""
    files = {path: path.read_text("utf-8") for path in Path(writebehind.__file__).parent.rglob("*.py")}
    assert _REPEATS.search('raise RedisUnavailableError(f"Redis does not answer: {error}") from error')
    assert [] == [(path.name, found.group()) for path, text in files.items() for found in _REPEATS.finditer(text)]


@pytest.fixture(scope="module")
def cut_off(tmp_path_factory) -> Iterator[FlaskClient]:
    """A client of an application whose Redis and MongoDB refuse every connection."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("nothing"))
        patch.setattr(Keyring, "is_on", lambda _: False)  # it was known before, or all would be refused
        urls = {"redis_url": f"redis://{REDIS}/0", "mongodb_url": f"mongodb://{MONGODB}/"}
        settings = load_settings(**urls, mongodb_timeout_ms=150, allow_unlisted=True)
        with connect(settings) as pipeline:
            yield create_app(pipeline).test_client()


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "said"),
    [
        ("PUT", "/v1/users/ada", {"n": 1}, 503, REDIS),
        ("DELETE", "/v1/users/ada", None, 503, REDIS),
        ("GET", "/v1/users/ada", None, 503, MONGODB),
        ("POST", "/v1/users:get", {"ids": ["ada", "bob"]}, 503, MONGODB),
        ("POST", "/v1/users:bulk", [{"op": "put", "id": "ada", "doc": {}}], 207, REDIS),
        ("GET", "/admin/status", None, 503, REDIS),
        ("GET", "/admin/dead-letters", None, 503, REDIS),
        ("GET", "/admin/dead-letters:export", None, 200, REDIS),
        ("GET", "/readyz", None, 503, REDIS),
    ],
)
def test_no_answer_says_where_the_servers_are(cut_off, caplog, method, path, body, status, said):
    """A client learns what does not answer and when to come again; the log says where."""
    cut_off.application.extensions.pop(REFUSALS, None)
    pipeline = cut_off.application.extensions[EXTENSION]
    pipeline._wire.outage.begin_anew()
    pipeline.breaker._log.begin_anew()
    answer = cut_off.open(path, method=method, json=body, headers={"X-Request-Id": "of-ada"})
    assert (status, False) == (answer.status_code, "127.0.0.1" in answer.text), answer.text
    assert "does not answer" in answer.text
    lines = [one.message for one in caplog.records if one.levelno >= logging.WARNING and said in one.message]
    assert 1 <= len(lines) <= 2, lines  # of the server, and of a request


def test_readiness_says_so_while_the_breaker_is_open(installation, client):
    """Why it is open is for operators, at the status: that alone names servers, also in what is to be done."""
    for _ in range(3):
        with pytest.raises(MongoUnavailableError), installation.pipeline.breaker.guard():
            raise MongoUnavailableError("MongoDB does not answer", inner=f"{MONGODB}: refused", outage=True)
    try:
        ready, refused = client.get("/readyz"), client.get("/v1/users/ada")
        assert (200, False, False) == (ready.status_code, "127.0.0.1" in ready.text, ready.json["mongodb"] == "ok")
        status = client.get("/admin/status").json
        assert MONGODB in status["breaker_reason"]
        assert [True] == [MONGODB in one["found"] for one in status["to_do"] if one["about"] == "mongodb"]
        assert MONGODB not in client.get("/metrics").text
        assert refused.status_code == 404 or "127.0.0.1" not in problem(refused, 503)["detail"]
    finally:
        installation.pipeline.breaker._close()
