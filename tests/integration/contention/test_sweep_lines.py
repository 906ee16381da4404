"""What the sweep says while MongoDB does not answer."""

from __future__ import annotations

from writebehind import Pipeline, Settings
from writebehind.errors import MongoUnavailableError
from writebehind.maintenance import periodic


def test_one_line_of_an_outage(settings, valkey_wire, mongo_client, caplog, monkeypatch):
    """However many sweeps find MongoDB away, the log has one line, which an operator finds by its event."""

    def away(_: int) -> None:
        raise MongoUnavailableError("MongoDB does not answer", outage=True)

    values = settings.model_dump() | {"collections": {"users": {"lookup": {"name": "string"}}}}
    pipeline = Pipeline(Settings.model_validate(values), wire=valkey_wire, client=mongo_client)
    monkeypatch.setattr(pipeline.maintenance._contention, "sweep", away)
    for _ in range(3):
        pipeline.maintenance.sweep()

    [line] = [one for one in caplog.records if one.name == periodic.__name__]
    assert ("outage_began", "unique values") == (line.event, line.kind)
    assert "dead letters of unique values were not looked at: MongoDB does not answer" in line.message
