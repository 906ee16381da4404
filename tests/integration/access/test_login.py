"""People log in at an OpenID Connect provider, from the console, in a browser."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from html import unescape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import httpx
import pytest
from playwright.sync_api import Page
from werkzeug.serving import make_server

from tests.acceptance.browser import browser, in_a_browser, tab
from tests.tokens import AUDIENCE, claims, jwk, key_set, signed
from tests.waiting import wait_until
from web.app import create_app
from writebehind import Pipeline, load_settings
from writebehind.access import published, read_ahead
from writebehind.access.login import Client, Login, Provider
from writebehind.errors import ConfigurationError, TokenKeysError
from writebehind.monitoring.watchers import Watchers
from writebehind.operations.doctor import access
from writebehind.operations.doctor.findings import Level, ok

CLIENT = "console"
#: All that a page can keep in a browser.
KEPT = "[localStorage, sessionStorage].map((one) => JSON.stringify(one)).join() + document.cookie"

#: The end of a login that is given up before its window has an address.
GIVEN_UP_AT_ONCE = """async () => {
  const { logIn } = await import(new URL("console/login.js", location));
  const login = new AbortController();
  const end = logIn({ authorization_endpoint: "https://login.example.com/" }, login.signal);
  login.abort();
  const late = new Promise((resolve) => setTimeout(resolve, 20_000, "it is waited for"));
  return Promise.race([end.catch((error) => error.name), late]);
}"""


class Issuer:
    """A provider that lets everybody in who presses its button, and holds a client to what it has sent before."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []
        self.scope, self.refuses, self.lies = "openid admin", False, {}
        #: What it is asked for is answered once they are set: where people log in, and a code for a token.
        self.tells, self.hurries = threading.Event(), threading.Event()
        self.tells.set()
        self.hurries.set()
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.show(self)

            def do_POST(self) -> None:
                issuer.exchange(self)

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.tells.set()
        self.hurries.set()
        self._server.shutdown()
        self._server.server_close()

    def show(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        if parts.path == "/.well-known/openid-configuration":
            self.tells.wait()
            places = {f"{one}_endpoint": f"{self.url}/{one}" for one in ("authorization", "token")}
            answer(handler, json.dumps({"issuer": self.url, **places, **self.lies}).encode())
        elif parts.path == "/jwks":
            answer(handler, key_set(jwk("EdDSA", "one")))
        elif parts.path != "/authorization":  # an icon
            answer(handler, b"", "image/png")
        else:
            given = dict(parse_qsl(parts.query))
            self.asked.append(given)
            told = {"error": "access_denied"} if self.refuses else {"code": str(len(self.asked))}
            told |= {"state": given["state"], "iss": self.url}
            link = f"{given['redirect_uri']}?{urlencode(told)}".replace("&", "&amp;")
            text = f'<html lang="en"><title>Login</title><a href="{link}">Log in as ada</a></html>'
            answer(handler, text.encode(), "text/html")

    def exchange(self, handler: BaseHTTPRequestHandler) -> None:
        given = parse_qs(handler.rfile.read(int(handler.headers["Content-Length"])).decode())
        sent = {name: one for name, (one,) in given.items()}
        asked = self.asked[int(sent["code"]) - 1]
        digest = hashlib.sha256(sent["code_verifier"].encode()).digest()
        assert "S256" == asked["code_challenge_method"]
        assert asked["code_challenge"] == urlsafe_b64encode(digest).decode().rstrip("=")
        assert [asked[one] for one in ("client_id", "redirect_uri")] == [
            sent[one] for one in ("client_id", "redirect_uri")
        ]
        assert (CLIENT, "authorization_code", None) == (
            sent["client_id"],
            sent["grant_type"],
            handler.headers["Cookie"],
        )
        token = signed(claims(self.scope, iss=self.url), "EdDSA", kid="one")
        self.hurries.wait()
        answer(handler, json.dumps({"access_token": token, "token_type": "Bearer"}).encode(), cors="*")


def answer(handler: Any, data: bytes, of: str = "application/json", cors: str = "") -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", of)
    handler.send_header("Content-Length", str(len(data)))
    if cors:
        handler.send_header("Access-Control-Allow-Origin", cors)
    handler.end_headers()
    handler.wfile.write(data)


def await_end(window: Page) -> None:
    """Wait until it is closed: what Playwright knows of it changes only while it is asked for something."""
    if not window.is_closed():
        window.wait_for_event("close")


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with Issuer() as issuer:
        yield issuer


@pytest.fixture
def api(settings, pipeline, issuer) -> Iterator[str]:
    """The address of an API that takes tokens of the issuer; `pipeline` has made its installation."""
    told = {"jwt_issuer": issuer.url, "jwt_audience": AUDIENCE, "jwt_jwks": f"{issuer.url}/jwks"}
    with Pipeline(settings.model_copy(update=told | {"oidc_client_id": CLIENT})) as ours:
        server = make_server("127.0.0.1", 0, create_app(ours), threaded=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
        server.server_close()


@in_a_browser
def test_a_person_logs_in(api, issuer):
    """In a window of its own, which closes; the page shows figures, and keeps the token in memory alone."""
    with browser() as chromium, tab(chromium, outage=True) as opened:
        page = opened.page
        page.goto(f"{api}/console")
        page.get_by_role("button", name="Give a key or token").click()
        assert [] == opened.faults()
        kept = page.evaluate(KEPT)
        with page.expect_popup() as popup:
            page.get_by_role("button", name=f"Log in at {issuer.url.removeprefix('http://')}").click()
        popup.value.get_by_text("Log in as ada").click()
        page.wait_for_selector(".pulse.on")
        await_end(popup.value)
        assert kept == page.evaluate(KEPT)
        page.reload()
        page.get_by_role("button", name="Give a key or token").wait_for()
    [asked] = issuer.asked
    assert ("code", "openid admin", AUDIENCE) == (asked["response_type"], asked["scope"], asked["audience"])


@in_a_browser
def test_a_login_is_given_up(api, issuer):
    """By the person, at any time: a token that comes later is nobody's. A closed window keeps nobody waiting."""
    with browser() as chromium, tab(chromium, outage=True) as opened:
        page = opened.page
        page.goto(f"{api}/console")
        with page.expect_popup() as early:
            assert "AbortError" == page.evaluate(GIVEN_UP_AT_ONCE)
        await_end(early.value)

        page.get_by_role("button", name="Give a key or token").click()
        login = page.get_by_role("button", name="Log in at")
        with page.expect_popup() as closed:
            login.click()
        closed.value.close()
        with page.expect_popup() as left:
            login.click()
        with page.expect_popup() as popup:
            login.click()
        left.value.get_by_text("Log in as ada").click()
        await_end(left.value)

        issuer.hurries.clear()
        with page.expect_request(f"{issuer.url}/token"):
            popup.value.get_by_text("Log in as ada").click()
        with page.expect_event("requestfailed", lambda one: one.url == f"{issuer.url}/token"):
            page.get_by_role("button", name="Cancel").click()
            page.get_by_role("dialog").wait_for(state="hidden")
            issuer.hurries.set()
        page.get_by_role("button", name="Give a key or token").wait_for()
        assert 1 == sum(one.endswith("/token") for one in opened.requests)


@in_a_browser
def test_a_provider_that_refuses_is_heard(api, issuer):
    """The reason stands in the dialog, where a person may try once more; a scope without admin is no way in."""
    issuer.refuses, issuer.scope = True, "users:read"
    with browser() as chromium, tab(chromium, outage=True) as opened:
        page = opened.page
        page.goto(f"{api}/console")
        page.get_by_role("button", name="Give a key or token").click()
        login = page.get_by_role("button", name="Log in at")
        with page.expect_popup() as popup:
            login.click()
        popup.value.get_by_text("Log in as ada").click()
        page.get_by_text("The provider refuses: access_denied").wait_for()
        issuer.refuses = False
        with page.expect_popup() as popup:
            login.click()
        popup.value.get_by_text("Log in as ada").click()
        page.get_by_text("the token of ada does not grant admin").wait_for()


def test_the_page_may_ask_the_provider_and_nobody_else(api, issuer, pipeline):
    """By its policy, as far as there is a login; where there is none it asks the API alone."""
    allowed, told, _ = of_page(httpx.get(f"{api}/console", trust_env=False))
    assert (issuer.url, f"{issuer.url}/token") == (allowed, told["token_endpoint"])
    allowed, told, _ = of_page(create_app(pipeline).test_client().get("/console"))
    assert (None, "no login") == (allowed, told)


def test_the_page_names_no_provider_that_it_may_not_ask(api, issuer, monkeypatch):
    """A first load waits for the provider, within a bound. One that came without it is no fresh page later."""
    monkeypatch.setattr(published, "WITHIN_S", 0.5)
    monkeypatch.setattr(read_ahead, "AGAIN_S", 0.1)
    issuer.tells.clear()
    token = signed(claims("admin", iss=issuer.url), "EdDSA", kid="one")
    with httpx.Client(headers={"Authorization": f"Bearer {token}"}, trust_env=False, timeout=60) as client:
        allowed, told, tag = of_page(client.get(f"{api}/console"))
        assert (None, None) == (allowed, told)
        client.headers["If-None-Match"] = tag
        assert 304 == client.get(f"{api}/console").status_code
        issuer.tells.set()
        monkeypatch.setattr(published, "WITHIN_S", 30)
        found = wait_until(lambda: (one := client.get(f"{api}/console")).status_code != 304 and one, "it")
    allowed, told, other = of_page(found)
    assert (issuer.url, issuer.url) == (allowed, told["issuer"])
    assert tag != other


def of_page(answer: Any) -> tuple[str | None, Any, str | None]:
    """The host that a page may ask besides the API, the provider that it has, and its tag."""
    allowed = re.search(r"; connect-src 'self' (\S+)$", answer.headers["Content-Security-Policy"])
    told = re.search('<meta name="login" content="(.*?)">', answer.text)
    tag = answer.headers.get("ETag")
    return allowed and allowed[1], json.loads(unescape(told[1])) if told else "no login", tag


def test_a_provider_is_read_before_anybody_asks(issuer):
    """By a thread that watches: whoever comes first waits no more than others."""
    login = Login(Client(issuer.url, CLIENT, "openid", AUDIENCE))
    with Watchers({"login": login.watch}):
        wait_until(lambda: login._provider.last, "it to be read")
        issuer.tells.clear()
        assert issuer.url == login.provider().issuer


@pytest.mark.parametrize(
    "lies",
    [
        {"issuer": "https://other.example"},
        {"token_endpoint": "http://login.example.com/token"},
        {"token_endpoint": "https://login.example.com;script-src */token"},
        {"token_endpoint": "token"},
        {"authorization_endpoint": "javascript:alert(1)"},
    ],
    ids=["issuer", "plain", "policy", "path", "script"],
)
def test_a_configuration_that_no_page_may_use(issuer, lies, caplog):
    """Nobody can log in, and the log says once why; the process asks again after a while."""
    issuer.lies = lies
    login = Login(Client(issuer.url, CLIENT, "openid", AUDIENCE))
    assert [None, None] == [login.provider(), login.provider()]
    assert ["login_away"] == [one.event for one in caplog.records]
    with pytest.raises(TokenKeysError):
        Client(issuer.url, CLIENT, "openid", AUDIENCE).read()


def test_a_provider_that_is_away_is_used_as_it_was(issuer, caplog):
    """What was read stays, and nobody waits for it to come back."""
    login = Login(Client(issuer.url, CLIENT, "openid", AUDIENCE))
    known = login.provider()
    assert isinstance(known, Provider)
    issuer.lies = {"issuer": "another"}
    login._provider._due = 0
    assert known == login.provider()
    wait_until(lambda: [one.event for one in caplog.records] == ["login_away"], "it to be read again")
    assert known == login.provider()
    issuer.lies, login._provider._due = {}, 0
    assert known == login.provider()
    wait_until(lambda: [one.event for one in caplog.records][1:] == ["login_back"], "it to be back")


def test_doctor_tells_whether_people_can_log_in(settings, pipeline, issuer):
    told = {"jwt_issuer": issuer.url, "jwt_audience": AUDIENCE, "jwt_jwks": f"{issuer.url}/jwks"}

    def found():
        with Pipeline(settings.model_copy(update=told | {"oidc_client_id": CLIENT})) as ours:
            return {one.check: one for one in access.check(ours)}["login"]

    right = ok("login", f"people log in to the console at {issuer.url}, as {CLIENT}")
    assert right == found()
    issuer.lies = {"issuer": "another"}
    wrong = found()
    assert (Level.WARNING, True) == (wrong.level, "is of another issuer: another" in wrong.found)
    assert "WRITEBEHIND_JWT_ISSUER" in wrong.advice


def test_a_client_needs_an_issuer():
    with pytest.raises(ConfigurationError, match="oidc_client_id"):
        load_settings(oidc_client_id=CLIENT)
