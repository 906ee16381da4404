"""Hosts that are not ours, and pages in browsers that are not ours either."""

from __future__ import annotations

from typing import Any

import pytest
from werkzeug.exceptions import HTTPException

from tests.unit.web.conftest import problem
from web.origins import check
from writebehind import load_settings
from writebehind.access.gate import Gate

FORM = "application/x-www-form-urlencoded"
ALL = "0.0.0.0"  # noqa: S104 - a setting

OURS = [
    "localhost",
    "localhost:8000",
    "LOCALHOST:8000",
    "localhost.",
    "127.0.0.1",
    "127.0.0.1:8000",
    "127.8.9.10:80",
    "[::1]",
    "[::1]:8000",
    "[::ffff:127.0.0.1]:8000",
]
FOREIGN = [
    "evil.example",
    "evil.example:8000",
    "localhost.evil.example",
    "evil-localhost",
    "127.0.0.1.evil.example",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0.0.0.0",  # noqa: S104 - nobody binds to it
    "0.0.0.0:8000",
    "[::]:8000",
    "192.0.2.1",
    "10.0.0.1:8000",
    "[2001:db8::1]",
]
MALFORMED = [
    "",
    " ",
    "localhost,localhost",
    "localhost, evil.example",
    "localhost@evil.example",
    "evil.example/localhost",
    "localhost:80:80",
    "localhost:x",
    "localhost:",
    "[::1",
    "::1",
    "lo calhost",
    "l\u00f6calhost",
    "localhost\u0661",
    "localhost#",
    "localhost:8000?",
]


#: What a browser says of a page that is not ours.
PAGES = {
    "another site": {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"},
    "another site, an old browser": {"Origin": "http://evil.example"},
    "another site, without its name": {"Sec-Fetch-Site": "cross-site"},
    "another port": {"Origin": "http://localhost:3000", "Sec-Fetch-Site": "same-site"},
    "another port, without its name": {"Sec-Fetch-Site": "same-site"},
    "another name of loopback": {"Origin": "http://127.0.0.1"},
    "a sandbox": {"Origin": "null", "Sec-Fetch-Site": "cross-site"},
    "a file": {"Origin": "null"},
    "a name that begins like ours": {"Origin": "http://localhost.evil.example"},
    "a user of ours": {"Origin": "http://localhost@evil.example"},
    "another scheme": {"Origin": "chrome-extension://localhost"},
    "nothing": {"Origin": ""},
    "two": {"Origin": "http://localhost, http://evil.example"},
    "another, said to be ours": {"Origin": "http://evil.example", "Sec-Fetch-Site": "same-origin"},
    "ours, said to be another": {"Origin": "http://localhost", "Sec-Fetch-Site": "cross-site"},
    "what no browser says": {"Sec-Fetch-Site": "Same-Origin "},
    "another site, a browser that tells pages only": {"Referer": "http://evil.example/a?b"},
    "another port, as a page": {"Referer": "http://localhost:3000/"},
    "a name that begins like ours, as a page": {"Referer": "http://localhost.evil.example/"},
    "a user of ours, as a page": {"Referer": "http://localhost@evil.example/"},
    "ours within a page of another": {"Referer": "http://evil.example/http://localhost/"},
    "no page at all": {"Referer": "about:blank"},
}
UNSAFE = [
    ("PUT", "/v1/users/ada"),
    ("PATCH", "/v1/users/ada"),
    ("DELETE", "/v1/users/ada"),
    ("POST", "/v1/users"),
    ("POST", "/v1/users:bulk"),
    ("POST", "/v1/users:get"),
    ("POST", "/v1/users/ada:increment"),
    ("POST", "/admin/dead-letters:replay?all=true"),
    ("DELETE", "/admin/dead-letters?all=true"),
    ("BREW", "/nothing"),
]


@pytest.mark.parametrize("host", OURS)
def test_names_of_loopback_are_ours(client, host):
    """With any port: what listens there may be reached through another one."""
    assert 200 == client.get("/healthz", headers={"Host": host}).status_code
    assert client.put("/v1/users/ada", json={}, headers={"Host": host}).status_code in {200, 201}


@pytest.mark.parametrize("path", ["/v1/users/ada", "/healthz", "/readyz", "/admin/status", "/docs", "/nothing"])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
def test_a_request_for_another_host_is_misdirected(client, method, path):
    """A page whose name leads here can read nothing, whatever it asks for."""
    answer = client.open(path, method=method, headers={"Host": "evil.example:8000"})

    problem(answer, 421, "misdirected-request")


@pytest.mark.parametrize("host", FOREIGN)
def test_what_only_looks_like_loopback_is_another_host(installation, client, host):
    """Nothing is stored of it."""
    problem(client.put("/v1/users/ada", json={}, headers={"Host": host}), 421, "misdirected-request")
    assert [] == installation.stored()


@pytest.mark.parametrize("host", MALFORMED)
def test_a_host_that_is_none_is_refused(client, host):
    """As is one that comes twice."""
    problem(client.get("/v1/users/ada", headers={"Host": host}), 400, "bad-request")


def test_http_1_0_needs_no_host(client):
    """Browsers do not speak it, load balancers' probes may."""
    environ = {"HTTP_HOST": "", "SERVER_PROTOCOL": "HTTP/1.0"}

    assert 200 == client.get("/healthz", environ_overrides=environ).status_code


@pytest.mark.parametrize("headers", PAGES.values(), ids=PAGES)
@pytest.mark.parametrize(("method", "path"), UNSAFE)
def test_no_page_gets_past_the_gate_without_a_host(installation, client, method, path, headers):
    """A proxy may have left it out on the way here."""
    environ = {"HTTP_HOST": "", "SERVER_PROTOCOL": "HTTP/1.0"}

    problem(
        client.open(path, method=method, json={}, headers=headers, environ_overrides=environ), 403, "forbidden"
    )
    assert [] == installation.stored()


def environ(host: str, **more: str) -> dict[str, Any]:
    return {"HTTP_HOST": host, "REQUEST_METHOD": "GET", "SERVER_PROTOCOL": "HTTP/1.1", **more}


@pytest.mark.parametrize("name", ["RAW_URI", "REQUEST_URI"])
@pytest.mark.parametrize(
    ("target", "host", "code"),
    [
        ("/v1/users/ada", "localhost", 200),
        ("/http://evil.example/", "localhost", 200),
        ("*", "localhost", 200),
        ("http://localhost:8000/v1/users/ada", "localhost:8000", 200),
        ("http://localhost", "evil.example", 200),
        ("http://evil.example/v1/users/ada", "localhost", 421),
        ("HTTPS://evil.example?localhost", "localhost", 421),
        ("ftp://evil.example#localhost", "localhost", 421),
        ("http://evil.example@localhost/", "localhost", 400),
        ("http:///v1/users/ada", "localhost", 400),
    ],
)
def test_a_target_that_names_a_host_decides(name, target, host, code):
    """Whatever `Host` says beside it (RFC 9112, section 3.2.2)."""
    assert code == status(Gate("127.0.0.1", []), host, **{name: target})


def status(gate: Gate, host: str, **more: str) -> int:
    try:
        check(gate, environ(host, **more))
    except HTTPException as error:
        return error.code
    return 200


@pytest.mark.parametrize(
    ("settings", "ours", "foreign"),
    [
        ({"allowed_hosts": ["api.example.com"]}, ["API.example.com:443", "localhost"], ["www.api.example.com"]),
        (
            {"allowed_hosts": ["*.example.com"]},
            ["a.example.com", "b.a.example.com"],
            ["example.com", "xexample.com"],
        ),
        ({"allowed_hosts": "web, api.example.com"}, ["web:8000", "api.example.com"], ["web.example.com"]),
        ({"allowed_hosts": ["*"]}, ["anything.example", "192.0.2.1"], []),
        ({"host": "192.0.2.1"}, ["192.0.2.1:8000", "127.0.0.1"], ["192.0.2.2", "example.com"]),
        # Nobody can let an address lead here, so that all are ours where we listen on all.
        ({"host": ALL}, ["192.0.2.1:8000", "[2001:db8::1]"], ["example.com", "1.2.3.4.example.com"]),
        ({"allowed_hosts": ["2001:db8::1"]}, ["[2001:DB8::1]:8000"], ["[2001:db8::2]"]),
        ({"host": "::"}, ["192.0.2.1:8000", "[2001:db8::1]"], ["example.com"]),
    ],
)
def test_the_settings_name_more_hosts(settings, ours, foreign):
    """As names, as all names below one, or as any; and the address that the API listens on."""
    known = load_settings(**settings)
    gate = Gate(known.host, known.allowed_hosts)

    assert [200] * len(ours) == [status(gate, one) for one in ours]
    assert [421] * len(foreign) == [status(gate, one) for one in foreign]


@pytest.mark.parametrize("name", ["", "a b", "http://a", "a:80", "*a", "a.*", "a/"])
def test_a_setting_that_is_no_host_is_refused(name):
    """It names the setting."""
    with pytest.raises(Exception, match="allowed_hosts"):
        load_settings(allowed_hosts=[name])


@pytest.mark.parametrize("headers", PAGES.values(), ids=PAGES)
@pytest.mark.parametrize(("method", "path"), UNSAFE)
def test_a_page_of_another_origin_changes_nothing(installation, client, method, path, headers):
    """Whatever it sends, with whatever type."""
    for content_type in ("application/json", "text/plain", "application/x-www-form-urlencoded", ""):
        answer = client.open(path, method=method, data=b"{}", content_type=content_type, headers=headers)
        problem(answer, 403, "forbidden")

    assert [] == installation.stored()


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("localhost:8000", "http://localhost:8000"),
        ("localhost", "http://localhost"),
        ("localhost:80", "http://localhost"),
        ("localhost", "https://localhost"),  # a proxy speaks TLS
        ("localhost:443", "https://localhost"),
        ("LocalHost:8000", "http://localhost:8000"),
        ("[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_our_own_page_may_write(client, host, origin):
    """Such as the one under `/docs`."""
    headers = {"Host": host, "Origin": origin, "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}

    assert client.put("/v1/users/ada", json={}, headers=headers).status_code in {200, 201}


def test_what_a_person_asks_for_is_served(client):
    """A browser says `none` of an address that was typed."""
    assert 200 == client.get("/healthz", headers={"Sec-Fetch-Site": "none"}).status_code


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_reading_is_left_to_the_browser(client, method):
    """It shows a page no answer of another origin that does not say that it may."""
    answer = client.open("/v1/users/ada", method=method, headers=PAGES["another site"])

    assert answer.status_code in {200, 404}
    assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://localhost"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Mode": "no-cors"},
        {"Sec-Fetch-Dest": "empty"},
        {"Sec-Fetch-User": "?1"},
    ],
    ids=str,
)
@pytest.mark.parametrize("content_type", [FORM, "", f"{FORM}; a=b"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/v1/users/ada"),
        ("POST", "/v1/users"),
        ("POST", "/v1/users:bulk"),
        ("POST", "/v1/users:get"),
        ("POST", "/v1/users/ada:increment"),
    ],
)
def test_a_page_has_to_say_that_it_sends_json(installation, client, method, path, content_type, headers):
    """What a form sends, and what says nothing, is for curl and scripts."""
    answer = client.open(path, method=method, data=b"{}", content_type=content_type, headers=headers)

    problem(answer, 415, "unsupported-media-type")
    assert [] == installation.stored()


@pytest.mark.parametrize(
    "headers",
    [
        {"Referer": "http://localhost:8000/docs"},
        {"Referer": "https://LOCALHOST:8000/docs#/?a@b"},
        {"Referer": ""},
        {"Origin": "http://localhost:8000", "Referer": "http://evil.example/"},
        {"Sec-Fetch-Site": "none", "Referer": "http://evil.example/"},
    ],
    ids=str,
)
def test_a_page_is_told_by_its_address_only_where_nothing_else_tells_it(client, headers):
    """What browsers say of a request as such counts more."""
    answer = client.put("/v1/users/ada", json={}, headers={"Host": "localhost:8000"} | headers)

    assert answer.status_code in {200, 201}


@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", ""])
def test_curl_need_not_say_what_it_sends(client, content_type):
    """As in every example of this project."""
    assert client.put("/v1/users/ada", data=b"{}", content_type=content_type).status_code in {200, 201}


@pytest.mark.parametrize("path", ["/docs", "/docs/", "/docs/index.html", "/docs/swagger-ui.css"])
def test_the_page_is_kept_out_of_other_pages(client, path):
    """Or a person could be led to click in it."""
    answer = client.get(path)
    answer.close()

    assert 200 == answer.status_code
    assert "DENY" == answer.headers["X-Frame-Options"]
    assert "frame-ancestors 'none'" == answer.headers["Content-Security-Policy"]
