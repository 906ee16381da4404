"""The page of the console: who gets it, and what it is made of."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urljoin

import pytest
from flask import Flask, Response, abort, redirect, request
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Unauthorized

import writebehind.flask.console
from tests.unit.flask.test_mounting import Mounted, mount, mounted
from writebehind.flask import api

__all__ = ["mount", "mounted"]

PAGE = Path(writebehind.flask.console.__file__).parent / "page"
VENDORED = tomllib.loads((PAGE / "vendor" / "vendored.toml").read_text())["package"]
OWN = sorted(one for one in PAGE.rglob("*") if one.is_file() and "vendor" not in one.parts)
IMPORT = re.compile(r"""^(?:import|export) .*?from "(.+?)";$""", re.MULTILINE)


class Addresses(HTMLParser):
    """Addresses in a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.inline: list[str] = []
        self._in = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in = tag
        self.found += [value for name, value in attrs if name in {"href", "src"} and value]
        self.inline += [name for name, _ in attrs if name == "style" or name.startswith("on")]

    def handle_data(self, data: str) -> None:
        if self._in in {"script", "style"} and data.strip():
            self.inline.append(data)


def app_of(installation, admin: Callable | None) -> Flask:
    app = Flask("team")
    app.register_blueprint(api(installation.pipeline, admin=admin), url_prefix="/store")
    return app


def loaded(get: Callable[[str], Response], page: str) -> set[str]:
    """All addresses that a browser loads for a page: what it names, and what modules import."""
    wanted = [urljoin(page, one) for one in Addresses(get(page).text).found]
    seen: set[str] = set()
    while wanted:
        one = wanted.pop()
        if one in seen:
            continue
        seen.add(one)
        answer = get(one)
        assert 200 == answer.status_code, one
        if one.endswith(".js"):
            wanted += [urljoin(one, other) for other in IMPORT.findall(answer.text)]
    return seen


def test_the_page_finds_its_files_wherever_it_is_mounted(mounted: Mounted):
    """Below any prefix, also one that a proxy strips, each address in the page and its modules leads to a file."""
    pages = ("console", "console/login.html")
    seen = set().union(*(loaded(mounted.get, f"{mounted.prefix}/{page}") for page in pages))

    assert {
        f"{mounted.prefix}/console/{name}" for name in ("main.js", "landing.js", "console.css", "vendor/uplot.js")
    } <= seen
    scripts = {one.relative_to(PAGE).as_posix() for one in PAGE.rglob("*.js")}
    assert scripts == {one.removeprefix(f"{mounted.prefix}/console/") for one in seen if one.endswith(".js")}


def test_a_slash_at_the_end_leads_to_the_page(mounted: Mounted):
    """By an address that is right whatever stands before it."""
    answer = mounted.get(f"{mounted.prefix}/console/")

    assert 308 == answer.status_code
    assert f"{mounted.prefix}/console" == urljoin(f"{mounted.prefix}/console/", answer.headers["Location"])


def test_there_is_no_page_without_a_guard(installation):
    """An application that has no routes for operators has no console."""
    client = app_of(installation, None).test_client()

    assert {404} == {client.get(f"/store/console{rest}").status_code for rest in ("", "/", "/main.js")}


def test_the_guard_decides_about_the_page(installation):
    """What it answers is answered, such as the way to a login."""
    client = app_of(installation, lambda: redirect("/login")).test_client()

    answer = client.get("/store/console")

    assert (302, "/login") == (answer.status_code, answer.headers["Location"])


def test_a_guard_that_raises_is_answered(installation):
    """An error other than 401 stays what it is."""
    client = app_of(installation, lambda: abort(403)).test_client()

    assert 403 == client.get("/store/console").status_code


def by_token() -> Response | None:
    """A guard that knows a token, and answers."""
    if request.headers.get("Authorization") == "Bearer sesame":
        return None
    return Response("no", 401, {"WWW-Authenticate": "Bearer realm=store"})


def by_raising() -> None:
    """A guard that knows a token, and raises."""
    if request.headers.get("Authorization") != "Bearer sesame":
        raise Unauthorized(www_authenticate=WWWAuthenticate("bearer", {"realm": "store"}))


@pytest.mark.parametrize("guard", [by_token, by_raising])
def test_who_has_to_say_a_token_gets_the_page_that_asks_for_it(installation, guard):
    """A browser cannot send one when somebody opens an address: the 401 has the page, and the challenge."""
    client = app_of(installation, guard).test_client()

    asked = client.get("/store/console")
    known = client.get("/store/console", headers={"Authorization": "Bearer sesame"})

    assert (401, "Bearer realm=store") == (
        asked.status_code,
        asked.headers["WWW-Authenticate"],
    )
    assert known.data == asked.data
    assert "ETag" not in asked.headers
    assert 200 == known.status_code
    assert 401 == client.get("/store/admin/status").status_code


def test_the_page_takes_nothing_from_elsewhere(client):
    """Its policy lets a browser load nothing from other hosts, and run nothing that stands in the page itself."""
    answers = [client.get(path) for path in ("/console", "/console/main.js", "/console/console.css")]

    for answer in answers:
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy
        assert "require-trusted-types-for 'script'" in policy
        assert ("nosniff", "DENY") == (answer.headers["X-Content-Type-Options"], answer.headers["X-Frame-Options"])
    page = Addresses(answers[0].text)
    assert [] == page.inline
    assert [] == [one for one in page.found if ":" in one or one.startswith("/")]


def test_browsers_ask_whether_a_file_has_changed(client):
    """Each has an entity tag, and is 304 for who has it."""
    for path, kind in (
        ("/console", "text/html"),
        ("/console/main.js", "text/javascript"),
        ("/console/icon.svg", "image/svg+xml"),
    ):
        first = client.get(path)
        again = client.get(path, headers={"If-None-Match": first.headers["ETag"]})

        assert (200, kind, "no-cache") == (first.status_code, first.mimetype, first.headers["Cache-Control"])
        assert (304, b"") == (again.status_code, again.data)


@pytest.mark.parametrize(
    "path",
    [
        "routes.py",
        "../routes.py",
        "%2e%2e/routes.py",
        "vendor",
        "vendor/",
        "/etc/passwd",
        "page/index.html",
        "nothing",
    ],
)
def test_no_other_file_is_shown(client, path):
    """Only those of the page."""
    assert client.get(f"/console/{path}").status_code in {404, 308}


@pytest.mark.parametrize("package", VENDORED, ids=lambda one: one["name"])
def test_what_others_made_is_as_they_published_it(package):
    """Each file has the hash that is noted beside it, and its licence is there."""
    hashes = {name: hashlib.sha256((PAGE / "vendor" / name).read_bytes()).hexdigest() for name in package["files"]}

    assert {name: expected for name, (_, expected) in package["files"].items()} == hashes
    assert "MIT" in package["licence"]
    assert "Copyright" in (PAGE / "vendor" / package["licence_file"]).read_text()


def test_nothing_is_vendored_without_a_note():
    """Every file in the folder is one of a package, or the note."""
    noted = {name for package in VENDORED for name in package["files"]}

    assert {"vendored.toml"} | noted == {one.name for one in (PAGE / "vendor").iterdir()}


def test_no_text_becomes_html_or_code():
    """Nothing of the page's own makes HTML of text, keeps a token, or names another host."""
    wrong = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|dangerouslySetInnerHTML|\beval\(|new Function"
        r"|srcdoc|sessionStorage|cookie|https?://(?!www\.w3\.org/2000/svg)"
    )
    found = {one.name: wrong.findall(one.read_text("utf-8")) for one in OWN}

    assert {name: [] for name in found} == found


def test_changes_by_operators_are_logged(client, caplog):
    """Each call that may change something is one line, with its filter and what came of it; a look is none."""
    caplog.set_level("INFO", "writebehind.flask.admin.changes")

    client.get("/admin/dead-letters")
    client.post("/admin/dead-letters:replay?collection=users", headers={"X-Request-Id": "who"})
    client.delete("/admin/dead-letters/users/nobody")

    lines = [one.getMessage() for one in caplog.records if one.name == "writebehind.flask.admin.changes"]
    assert [
        "administrative call: POST /admin/dead-letters:replay [who] ?collection=users: 200",
        lines[1],
    ] == lines
    assert re.fullmatch(r"administrative call: DELETE /admin/dead-letters/users/nobody \[\w+\]: 404", lines[1])
