"""What processes know of API keys, and for how long they go by it."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from click.testing import CliRunner

from tests.integration.access.conftest import ask, is_allowed
from tests.integration.conftest import environment
from tests.waiting import wait_until
from web.app import create_app
from writebehind import Pipeline, connect
from writebehind.access import keyring as keyrings
from writebehind.cli import cli
from writebehind.monitoring.page import Page
from writebehind.operations.api_keys import KeyOffice
from writebehind.operations.doctor.access import check
from writebehind.operations.doctor.findings import Level
from writebehind.redis.keys import API_KEYS


def test_a_key_that_is_revoked_or_has_expired_is_refused_and_leaves_nothing_open(client, office):
    revoked, expired = office.create("revoked", ["*:read"]), office.create("expired", ["*:read"], expires_s=1)
    office.revoke("revoked")
    wait_until(lambda: not expired.key.is_live(time.time() * 1000), "the key's end", 10)
    for one in (revoked, expired):
        assert ask(client, "GET", "/v1/users/ada", None, one.token.text).status_code == 401
    assert ask(client, "GET", "/v1/users/ada", None).status_code == 401
    assert {one.name: one.as_dict(time.time() * 1000)["state"] for one in office.listed()} == {
        "revoked": "revoked",
        "expired": "expired",
    }


def test_what_is_no_key_of_ours_opens_nothing_and_leaves_nothing_open(client, office, pipeline):
    """Fields that other hands have put among the keys, each by itself."""
    key = office.create("one", ["users:read"])
    for field, value in [("", b""), ("x", b"x"), (key.key.id, b"[]"), (f"{key.key.id}:1", b"{}")]:
        pipeline.store._wire.call("DEL", API_KEYS)
        pipeline.store._wire.call("HSET", API_KEYS, field, value)
        assert ask(client, "GET", "/v1/users/ada", None, key.token.text).status_code == 401
        assert list(office.listed()) == []


def test_every_process_refuses_a_revoked_key_within_5_s(settings, office):
    """Each has read the keys by itself, and asks Redis again in time; not with each request."""
    token = office.create("one", ["users:read"]).token.text
    with Pipeline(settings) as other:
        client = create_app(other).test_client()
        assert is_allowed(ask(client, "GET", "/v1/users/ada", None, token))
        office.revoke("one")
        wait_until(lambda: not is_allowed(ask(client, "GET", "/v1/users/ada", None, token)), "the refusal", 5)


def test_no_request_asks_redis_for_keys(pipeline, office, monkeypatch):
    office.create("one", ["users:read"])
    asked = []
    read = pipeline.store.api_keys.read
    monkeypatch.setattr(pipeline.store.api_keys, "read", lambda: asked.append(1) or read())
    monkeypatch.setattr(keyrings, "FRESH_S", 60)
    for _ in range(50):
        pipeline.keyring.find("wb_000000000000_" + "a" * 43)
    assert len(asked) <= 1


def test_a_key_that_was_found_before_it_was_revoked_is_not_taken_after(office, pipeline):
    """Also where a thread remembers the key that it found among those of before."""
    one = office.create("one", ["users:read"])
    before = pipeline.keyring.all()
    assert pipeline.keyring.find(one.token.text)
    office.revoke("one")
    pipeline.keyring._match(one.token.text, before)
    assert pipeline.keyring.find(one.token.text) is None


def test_nobody_gets_in_while_keys_are_read_for_the_first_time(office, settings):
    """Whoever comes meanwhile waits, or knows that there are some."""
    office.create("one", ["users:read"])
    with Pipeline(settings) as fresh, ThreadPoolExecutor(8) as threads:
        assert all(threads.map(lambda _: fresh.keyring.is_on(), range(200)))


def test_a_process_that_has_seen_keys_does_not_open_when_they_are_dropped(office, pipeline, client):
    token = office.create("one", ["users:read"]).token.text
    assert ask(client, "GET", "/v1/users/ada", None, token).status_code == 404
    pipeline.store._wire.call("DEL", API_KEYS)
    for given in ("", token):
        assert ask(client, "GET", "/v1/users/ada", None, given).status_code == 401


def test_a_process_that_starts_on_an_emptied_redis_is_not_open(settings, valkey_wire, tmp_path, caplog):
    """The host has seen keys. Another installation, one without a directory, and one of before are open."""
    del valkey_wire  # it is empty
    with connect(settings.model_copy(update={"state_dir": tmp_path})) as before:
        assert not before.keyring.is_on()
        assert (False, []) == (before.status()["lost_keys"], _of_keys(before))
        KeyOffice(before.store.api_keys, before.keyring).create("one", ["users:read"])
        before.store._wire.on_each([("FLUSHALL",)])
        assert ["Redis has lost all API keys"] == [one.found.partition(";")[0] for one in check(before)]

    caplog.clear()
    with connect(settings.model_copy(update={"state_dir": tmp_path})) as fresh:
        client = create_app(fresh).test_client()
        assert 401 == ask(client, "GET", "/v1/users/ada", None).status_code
        (line,) = [one for one in caplog.records if getattr(one, "event", "") == "keys_lost"]
        assert "keys create" in line.getMessage()
        (found,) = check(fresh)
        assert (Level.FAILURE, True) == (found.level, "lost all API keys" in found.found)
        assert str(tmp_path) in found.advice
        status = fresh.status()
        assert (True, "lost-keys", "critical") == (
            status["lost_keys"],
            *(status["to_do"][0][name] for name in ("condition", "severity")),
        )
        assert "writebehind_api_keys_lost 1.0" in Page(fresh).render("")[0].decode()
        shown = CliRunner().invoke(
            cli, ["status"], env=environment(settings) | {"WRITEBEHIND_STATE_DIR": str(tmp_path)}
        )
        assert (2, True) == (shown.exit_code, "keys lost" in shown.stdout), shown.output

    with connect(settings) as forgetful:
        assert not forgetful.keyring.is_on()
    moved = {"redis_url": "localhost", "mongodb_url": "localhost"}
    other = {name: getattr(settings, name).replace("127.0.0.1", host) for name, host in moved.items()}
    with connect(settings.model_copy(update={"state_dir": tmp_path, **other})) as another:
        assert not another.keyring.is_on()
    with connect(settings.model_copy(update={"state_dir": tmp_path})) as fresh:
        office = KeyOffice(fresh.store.api_keys, fresh.keyring)
        token = office.create("two", ["users:read"]).token.text
        assert fresh.keyring.find(token) is not None
        assert not fresh.keyring.has_lost
        assert (False, []) == (fresh.status()["lost_keys"], _of_keys(fresh))


def _of_keys(pipeline: Pipeline) -> list[str]:
    return [one["about"] for one in pipeline.status()["to_do"] if one["about"] == "lost_keys"]


def test_nobody_goes_by_keys_that_are_too_old_while_somebody_reads_them(office, pipeline, monkeypatch):
    """After a time without requests, the first one reads them, and the others wait for that."""
    one = office.create("one", ["users:read"])
    assert pipeline.keyring.find(one.token.text)
    office.revoke("one")
    pipeline.keyring._due = time.monotonic() - 3_600
    reading, read = threading.Event(), pipeline.store.api_keys.read

    def slowly():
        reading.set()
        time.sleep(0.3)
        return read()

    monkeypatch.setattr(pipeline.store.api_keys, "read", slowly)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(pipeline.keyring.find, one.token.text)
        assert reading.wait(10)
        second = threads.submit(pipeline.keyring.find, one.token.text)
        assert (first.result(), second.result()) == (None, None)
