"""Bodies are read before a thread is taken: whole, in time, and no larger than allowed."""

from __future__ import annotations

import pytest

from tests.unit.web.server.conftest import CHUNKED, GONE, MIB, Client, length, part, run
from web.environ import announced


@pytest.mark.parametrize(
    "client",
    [
        Client(part(b"abcdef"), headers=length(6)),
        Client(part(b"abc", more=True), part(b"def"), headers=length(6)),
        Client(part(b"abc", more=True), part(b"def", more=True), part(b""), headers=CHUNKED),
    ],
    ids=["one piece", "two pieces", "chunks"],
)
def test_a_whole_body_reaches_the_application(app, server, client):
    """It is read before a thread is taken, whatever pieces it comes in."""
    run(server, client)

    assert (200, b"abcdef", True) == (client.status, client.answer, client.complete)


@pytest.mark.parametrize(
    "client",
    [
        Client(GONE, headers=CHUNKED),
        Client(part(b"abc", more=True), GONE, headers=CHUNKED),
        Client(part(b"abc", more=True), GONE, headers=length(6)),
    ],
    ids=["nothing", "no last chunk", "less than its length"],
)
def test_a_body_that_breaks_off_never_reaches_the_application(app, server, client):
    """The application is asked for a refusal in its place."""
    run(server, client)

    assert ([], [400]) == (app.environs, [one.code for one in app.refused])


def test_a_body_that_does_not_come_is_refused_in_time(app, server):
    """Nobody waits longer than the settings say, nor for a body of which a part has come."""
    clients = [Client(headers=length(6)), Client(part(b"abc", more=True), headers=CHUNKED)]

    run(server, *clients)

    assert [408, 408] == [one.status for one in clients]
    assert [] == app.environs


def test_a_body_that_is_too_large_is_not_read(app, server):
    """What says so is not read at all, what does not say so only up to the limit."""
    says_so = Client(part(b"x"), headers=length(MIB + 1))
    does_not = Client(*[part(b"x" * (MIB // 4), more=True)] * 10, headers=CHUNKED)

    run(server, says_so, does_not)

    assert [413, 413] == [says_so.status, does_not.status]
    assert (1, 5) == (len(says_so.coming), len(does_not.coming))
    assert [] == app.environs


@pytest.mark.parametrize(
    ("digits", "length"), [(b"0" * 5000 + b"2", 2), (b"0" * 5000, 0), (b"9" * 5000, int("9" * 18)), (b"17", 17)]
)
def test_a_length_of_any_number_of_digits_is_read(digits, length):
    """What is more than any limit has no need to be exact."""
    assert length == announced([(b"content-length", digits)])


@pytest.mark.parametrize("coding", [b"gzip, chunked", b"gzip", b"identity"])
def test_other_transfer_codings_are_refused(app, server, coding):
    """Nobody decodes them here."""
    client = Client(part(b"x"), headers=((b"transfer-encoding", coding),))

    run(server, client)

    assert (501, []) == (client.status, app.environs)


def test_the_environment_is_as_wsgi_has_it(app, server):
    """The path comes as the bytes that were sent; a header that comes twice is joined."""
    twice = ((b"x-twice", b"1"), (b"x-twice", b"2"), (b"content-type", b"text/plain"))
    client = Client(path="/v1/users/%FF%2F", headers=twice)

    run(server, client)

    said = app.environs[0]
    assert ("/v1/users/\xff/", "a=%20") == (said["PATH_INFO"], said["QUERY_STRING"])
    assert ("1,2", "text/plain") == (said["HTTP_X_TWICE"], said["CONTENT_TYPE"])
    assert ("PUT", "HTTP/1.1", "127.0.0.1") == (
        said["REQUEST_METHOD"],
        said["SERVER_PROTOCOL"],
        said["REMOTE_ADDR"],
    )


def test_a_name_with_an_underscore_passes_for_no_other(app, server):
    """WSGI has one name for `If-Match` and `If_Match`; HTTP, and what lies before, know the first only."""
    odd = ((b"if_match", b"*"), (b"content_type", b"text/html"), (b"x-a_b", b"1"), (b"content_length", b"9"))
    client = Client(part(b"{}"), headers=(*odd, *length(2)))

    run(server, client)

    said = app.environs[0]
    assert ["HTTP_HOST"] == [name for name in said if name.startswith("HTTP_")]
    assert ("2", False) == (said["CONTENT_LENGTH"], "CONTENT_TYPE" in said)
