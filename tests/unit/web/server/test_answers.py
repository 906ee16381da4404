"""Answers are written as they are taken, and given up where nobody takes them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.web.server.conftest import GONE, Client, Written, part, run
from web.answers import PIECE


def test_a_long_answer_is_written_as_it_is_taken(app, server):
    """All of it arrives, and it is closed."""
    written = Written(20)
    app.writes = lambda _: written
    client = Client()

    run(server, client)

    assert (20 * PIECE, True) == (len(client.answer), client.complete)
    assert written.closed


@pytest.mark.parametrize("pieces", [1, 20])
def test_an_answer_that_is_not_taken_is_given_up(app, server, pieces):
    """It is not written further, closed, and left incomplete, at which granian closes the connection."""
    written = Written(pieces)
    app.writes = lambda _: written
    client = Client()
    sent = client.send

    async def start_only(message: dict[str, Any]) -> None:
        await sent(message)
        client.takes = False

    client.send = start_only
    run(server, client)

    assert (b"", False) == (client.answer, client.complete)
    assert pieces - 1 == written.left
    assert written.closed


def test_an_answer_is_not_written_for_a_client_that_is_gone(app, server):
    """What nobody takes is not even read from Redis."""
    written = Written(20)
    app.writes = lambda _: written
    client = Client(part(b""), GONE)

    run(server, client)

    assert written.left > 0
    assert written.closed
    assert not client.complete
