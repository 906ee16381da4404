"""Events of a change stream, as the driver hands them over."""

from __future__ import annotations

import time
from typing import Any

from writebehind.change_stream.verdicts import OutsideChange
from writebehind.documents.entry import Entry
from writebehind.documents.ids import DocumentId
from writebehind.documents.raw_bson import split_version


def _at_ms(event: Any) -> int:
    """Time of an event by MongoDB's clock, ms since the epoch; before MongoDB 6.0 to the second below."""
    wall = event.get("wallTime")
    return event["clusterTime"].time * 1000 if wall is None else int(wall)


def age_s(event: Any) -> float:
    """Age of an event by this machine's clock, seconds."""
    return round(max(0.0, time.time() - _at_ms(event) / 1000), 3)


def read_change(event: Any) -> OutsideChange | None:
    """The change that an event reports; `None` where it is of no document of ours."""
    one = DocumentId.stored(event["ns"]["coll"], event["documentKey"]["_id"])
    if one is None:
        return None
    document = event.get("fullDocument")
    after = None if document is None else Entry.loaded(*split_version(document.raw))
    return OutsideChange(one, event["operationType"], _at_ms(event), after)
