"""Clients that meet their limits are refused at the door, without a thread."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import orjson
import pytest

from tests.unit.web.server.conftest import Client, length, part, run
from web.limits import Door
from web.server import Server
from writebehind import load_settings
from writebehind.access.keys import ApiKey, Token
from writebehind.access.limits import Clients, Limit
from writebehind.access.rights import Rights
from writebehind.access.subjects import Holder, Subject
from writebehind.flask.problems import NOTED, SPEND
from writebehind.tallies import families
from writebehind.tallies.tallies import Tallies

READER, OPERATOR, BUSY = (f"wb_{number:012d}_{'s' * 43}" for number in range(3))


class Ring:
    """The keys that are known."""

    has_any = True

    def recognise(self, text: str) -> Holder | None:
        if text.startswith("ey"):
            return Subject(text.removeprefix("ey."), Rights.parse(["*:read"]), 0)
        grants, rate = {READER: ("*:read", None), OPERATOR: ("admin", None), BUSY: ("*:read", 1)}.get(
            text, (None, None)
        )
        if grants is None:
            return None
        token = Token.parse(text)
        return ApiKey(token.id, "a key", Rights.parse([grants]), 0, None, token.digest, rate=rate)


class Nowhere:
    """Redis, which nobody asks for a request."""


@pytest.fixture
def tallies() -> Tallies:
    return Tallies()


@pytest.fixture
def limited(app, tallies):
    def make(limit: Limit) -> Server:
        door = Door(Clients(limit, Nowhere()), Ring())
        return Server(app, load_settings(web_threads=2), tallies, door)

    return make


def client(*messages: dict[str, Any], key: str = "", **given: Any) -> Client:
    headers = given.pop("headers", ())
    if key:
        headers = (*headers, (b"authorization", f"Bearer {key}".encode()))
    return Client(*messages, headers=headers, **given)


def statuses(server: Server, *clients: Client) -> list[int]:
    """One after the other."""
    for one in clients:
        run(server, one)
    return [one.status for one in clients]


def test_who_has_used_up_its_rate_is_told_when_to_come_again(app, limited):
    """As a problem, by the headers of the standards, and no thread is asked."""
    server = limited(Limit(0.5, 4, concurrency=3))
    ones = [client(headers=[(b"x-request-id", b"mine")]) for _ in range(3)]

    assert [200, 200, 429] == statuses(server, *ones)

    assert 2 == len(app.environs)
    refused = ones[2].headers
    assert {"retry-after": "2", "x-request-id": "mine", "ratelimit": '"items";r=0;t=4'}.items() <= refused.items()
    assert '"items";q=2;w=4, "concurrent";q=3;qu="concurrent-requests"' == refused["ratelimit-policy"]
    assert '"items";r=1;t=2' == ones[0].headers["ratelimit"]
    assert "application/problem+json" == refused["content-type"]
    problem = orjson.loads(ones[2].answer)
    assert ("urn:problem-type:writebehind:rate-exceeded", 429) == (problem["type"], problem["status"])
    assert (["items"], "mine") == (problem["violated-policies"], problem["request_id"])
    assert str(len(ones[2].answer)) == refused["content-length"]


@pytest.mark.parametrize(("origin", "may_read"), [("https://app.example", True), ("https://evil.example", False)])
def test_a_page_can_read_why_it_is_refused(app, tallies, origin, may_read):
    """One of an origin in the settings, as each other answer."""
    settings = load_settings(web_threads=2, cors_origins=["https://app.example"])
    server = Server(app, settings, tallies, Door(Clients(Limit(0.1, 1), Nowhere()), Ring()))
    page = client(headers=[(b"origin", origin.encode())])

    assert [200, 429] == statuses(server, client(), page)
    assert "nosniff" == page.headers["x-content-type-options"]
    assert (origin if may_read else None) == page.headers.get("access-control-allow-origin")
    assert may_read == ("Retry-After" in page.headers.get("access-control-expose-headers", ""))


def test_the_question_of_a_browser_costs_nothing(app, tallies):
    """It has no key, and a page that is refused so learns neither why nor for how long. Others pay for asking."""
    door = Door(Clients(Limit(0.1, 1), Nowhere()), Ring(), {"https://app.example"})
    server = Server(app, load_settings(web_threads=2, cors_origins=["https://app.example"]), tallies, door)

    def asks(origin: bytes, *more: tuple[bytes, bytes]) -> Client:
        return client(method="OPTIONS", headers=[(b"origin", origin), *more])

    wants = (b"access-control-request-method", b"PUT")
    free = [asks(b"https://app.example", wants) for _ in range(3)]
    assert [200] * 3 + [200, 429] + [200] == statuses(
        server, *free, client(), client(), asks(b"https://app.example", wants)
    )
    assert [429, 429] == statuses(server, asks(b"https://evil.example", wants), asks(b"https://app.example"))


def test_head_has_no_body(limited):
    """The length is told all the same."""
    server = limited(Limit(0.1, 1))
    last = client(method="HEAD")

    assert [200, 429] == statuses(server, client(), last)
    assert (b"", True) == (last.answer, int(last.headers["content-length"]) > 0)


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_who_watches_has_no_limit(limited, path):
    """Health and figures are told however much else a client asks for."""
    server = limited(Limit(0.1, 1))

    assert [200] * 5 == statuses(server, *(client(path=path) for _ in range(5)))


def test_operators_have_no_limit(limited):
    """Who may not operate has one for what is for operators, too, unless there are no keys."""
    server = limited(Limit(0.1, 1))

    assert [200] * 3 == statuses(server, *(client(path="/admin/status", key=OPERATOR) for _ in range(3)))
    assert [200, 429] == statuses(server, *(client(path="/admin/status", key=READER) for _ in range(2)))
    assert [200, 429] == statuses(server, *(client(path="/admin/status") for _ in range(2)))
    Ring.has_any = False
    try:
        assert [200] * 3 == statuses(server, *(client(path="/admin/status") for _ in range(3)))
    finally:
        Ring.has_any = True


def test_each_key_and_each_address_counts_for_itself(limited):
    """A key may have a rate of its own; a wrong one counts for the address."""
    server = limited(Limit(0.1, 20))

    assert [200, 200, 429] == statuses(server, *(client(key=READER) for _ in range(3)))
    assert [200] * 20 == statuses(server, *(client(key=BUSY) for _ in range(20)))
    wrong = [client(key="wb_no_such_key"), client(), client(key="wb_no_such_key")]
    assert [200, 200, 429] == statuses(server, *wrong)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("fe80::1%eth0", "fe80::2%eth1", True),
    ],
)
def test_of_ipv6_addresses_one_client_has_many(limited, one, other, same):
    """A network of 64 bits is one client."""
    server = limited(Limit(0.1, 1))
    first, second = client(), client()
    first.scope["client"], second.scope["client"] = (one, "1"), (other, "2")

    assert [200, 429 if same else 200] == statuses(server, first, second)


def test_items_count_each(app, limited):
    """The application says how many there are; the request was let in, and the next one waits."""
    server = limited(Limit(10, 1))
    app.writes = lambda environ: [str(environ[SPEND](99)).encode()]
    next_one = client()

    assert [200, 429] == statuses(server, client(), next_one)
    assert "10" == next_one.headers["retry-after"]


def test_requests_at_a_time_are_limited(app, limited):
    """Those that wait for a thread, or for the rest of a body, count as well; others are served."""
    server = limited(Limit(concurrency=2))
    go_on = threading.Event()
    app.writes = lambda environ: [b"done" if go_on.wait(10) else b""]
    busy = [client(part(b"a", more=True), part(b"b"), headers=length(2)) for _ in range(3)]
    other = client(key=READER)

    async def all_of_them() -> None:
        waiting = [asyncio.ensure_future(one.ask(server)) for one in busy]
        await waiting[2]
        go_on.set()
        await asyncio.gather(*waiting, other.ask(server))
        await client().ask(server)

    asyncio.run(all_of_them())

    assert [200, 200, 429, 200] == [one.status for one in (*busy, other)]
    assert "1" == busy[2].headers["retry-after"]
    assert "urn:problem-type:writebehind:concurrency-exceeded" == orjson.loads(busy[2].answer)["type"]


@pytest.mark.parametrize("framed", [length(12 << 20), ((b"transfer-encoding", b"chunked"),)])
def test_the_body_of_who_is_refused_is_not_awaited(app, limited, framed):
    """Nothing of it is read, and the connection that it may still come by is closed."""
    late = client(part(b"a", more=True), key=READER, headers=framed)

    assert [200, 429] == statuses(limited(Limit(0.1, 1)), client(key=READER), late)

    assert late.complete
    assert [part(b"a", more=True)] == late.coming
    assert "close" == late.headers["connection"]


def test_who_is_refused_and_sends_no_body_keeps_its_connection(app, limited):
    again = client(key=READER, method="GET")
    assert [200, 429] == statuses(limited(Limit(0.1, 1)), client(key=READER), again)
    assert "connection" not in again.headers


def test_a_coding_that_nobody_knows_is_refused_as_such(app, limited):
    """Also of who has used up its limit: what comes after it cannot be told from its body."""
    odd = client(key=READER, headers=((b"transfer-encoding", b"gzip"),))
    assert [200, 501] == statuses(limited(Limit(0.1, 1)), client(key=READER), odd)
    assert "close" == odd.headers["connection"]


def test_without_limits_answers_say_nothing_of_them(limited):
    """There are none unless the settings have some."""
    one = client()

    assert [200] == statuses(limited(Limit()), one)
    assert not one.headers.keys() & {"ratelimit", "ratelimit-policy"}


def test_the_subject_of_a_token_is_a_client(limited, caplog):
    """Whatever its token, and wherever it comes from; no key and no other subject has its rate."""
    server = limited(Limit(0.1, 1))

    with caplog.at_level("WARNING", "web.limits"):
        found = statuses(server, *(client(key=key) for key in ("ey.ada", "ey.ada", "ey.bob", READER)))

    assert [200, 429, 200, 200] == found
    assert ["subject ada"] == [one.client for one in caplog.records]
    assert "the token of ada" in caplog.records[0].message


def test_refusals_are_counted_and_told_once(limited, tallies, caplog):
    """By the limit, and with the key; a line for each would fill the disk."""
    server = limited(Limit(0.1, 1))
    noted: dict[str, Any] = {}
    last = client(key=READER)
    last.scope[NOTED] = noted

    with caplog.at_level("WARNING", "web.limits"):
        assert [200, 429, 429, 429] == statuses(server, *(client(key=READER) for _ in range(3)), last)

    [line] = caplog.records
    key_id = Token.parse(READER).id
    assert ("client_limited", "rate", f"key {key_id}") == (line.event, line.limit, line.client)
    assert {"key": key_id} == noted
    assert 3 == tallies.read()[families.REFUSED.name, ("rate",)][0]
