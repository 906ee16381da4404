"""Cursors of lists: the id after which a page begins, signed, so that no client makes one up."""

from __future__ import annotations

import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

import bson
from bson.codec_options import CodecOptions
from bson.errors import BSONError

from writebehind.errors import RequestError

#: No cursor has more characters: one of the longest id of the pipeline has 720.
LONGEST: Final = 1_000
_SIGNATURE_BYTES: Final = 16
_PLAIN: Final[CodecOptions[dict[str, object]]] = CodecOptions()
_GRAMMAR: Final = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Cursors:
    """The cursors of one collection.

    Attributes:
        collection: its name: a cursor of another one is refused.
        secret: the key that they are signed with.
    """

    collection: str
    secret: bytes

    def after(self, value: object) -> str | None:
        """The cursor of the documents after this `_id`; `None` for one of others that makes none."""
        try:
            place = bson.encode({"": value})
        except (BSONError, UnicodeEncodeError):  # it is a string of others, and no UTF-8
            return None
        text = urlsafe_b64encode(self._signature(place) + place).rstrip(b"=").decode()
        return text if len(text) <= LONGEST else None

    def read(self, cursor: str) -> object:
        """The `_id` that a cursor was made of.

        Raises:
            RequestError: it is none of this collection.
        """
        if len(cursor) <= LONGEST and _GRAMMAR.fullmatch(cursor) and len(cursor) % 4 != 1:
            raw = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
            signature, place = raw[:_SIGNATURE_BYTES], raw[_SIGNATURE_BYTES:]
            if hmac.compare_digest(signature, self._signature(place)):
                return bson.decode(place, _PLAIN)[""]
        raise RequestError(
            f"after: this is no cursor of {self.collection}, or none any more: begin at the first page"
        )

    def _signature(self, place: bytes) -> bytes:
        signed = b"after\0" + self.collection.encode() + b"\0" + place
        return hmac.digest(self.secret, signed, sha256().name)[:_SIGNATURE_BYTES]
