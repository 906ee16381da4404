"""Idempotency keys: names that clients give to their writes, so that one that is repeated counts once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

from writebehind.errors import InvalidArgumentError

#: Characters of a key, at most.
LONGEST_KEY = 255
#: Bytes of the digest by which two requests are told apart.
_DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """The name of one write, and the digest of what it asks for.

    Attributes:
        text: the key, 1 to `LONGEST_KEY` printable characters of ASCII.
        digest: 32 hex characters; the same key with another one is another request.
    """

    text: str
    digest: str

    @classmethod
    def of(cls, text: str, request: Sequence[bytes]) -> IdempotencyKey:
        """The key of a request, which its parts tell apart from every other one.

        Raises:
            InvalidArgumentError: the text is no key.
        """
        check_key(text)
        # With their lengths, so that no two lists of parts are one text.
        told = b"%d:" * len(request) % tuple(map(len, request)) + b"".join(request)
        return cls(text, blake2b(told, digest_size=_DIGEST_BYTES).hexdigest())


def check_key(text: str) -> str:
    """The text, if it is a key.

    Raises:
        InvalidArgumentError: it is none.
    """
    if not (text.isascii() and text.isprintable() and 0 < len(text) <= LONGEST_KEY):
        raise InvalidArgumentError(
            f"an idempotency key has 1 to {LONGEST_KEY} printable characters of ASCII: use a new UUID each time"
        )
    return text
