"""Events that several modules log, as the fields of their lines."""

from __future__ import annotations

from typing import Final

#: Something that only other hands can have put into Redis or the broker was met.
OTHER_HANDS: Final = {"event": "other_hands"}
#: An error that nobody foresaw.
FAULT: Final = {"event": "fault"}
