"""Changes that are not heard, as MongoDB does not answer."""

from __future__ import annotations

import logging
from unittest.mock import Mock

from pymongo import MongoClient
from pymongo.errors import ConnectionFailure

from writebehind.consistency import changes as module
from writebehind.consistency.changes import Changes
from writebehind.local.embedded import free_port


def test_one_line_of_an_outage(caplog, monkeypatch):
    """However often a stream is tried to be opened, the log has one line, which an operator finds by its event."""
    monkeypatch.setattr(module, "AFTER_FAILURE_S", 0.0)
    client: MongoClient = MongoClient("localhost", free_port(), serverSelectionTimeoutMS=50)
    with client, caplog.at_level(logging.INFO, logger=module.__name__):
        heard = Changes(client, "writebehind", collections=None)
        for _ in range(3):
            assert [] == heard.poll(10)

    [line] = caplog.records
    assert ("outage_began", "changes") == (line.event, line.kind)
    assert "changes are not heard, so more is compared: MongoDB does not answer" in line.message


def test_a_line_when_they_are_heard_again(caplog, monkeypatch):
    """It says how long they were not."""
    monkeypatch.setattr(module, "AFTER_FAILURE_S", 0.0)
    stream = Mock(try_next=lambda: None, alive=True)
    database = Mock(watch=Mock(side_effect=[ConnectionFailure("away"), stream]))
    heard = Changes(Mock(get_database=lambda *_, **__: database), "writebehind", collections=None)

    for _ in range(3):
        assert [] == heard.poll(10)

    assert [("outage_began", "changes"), ("outage_over", "changes")] == [
        (one.event, one.kind) for one in caplog.records
    ]
    assert caplog.records[-1].message.startswith("changes are heard again, after 0.0 s")
