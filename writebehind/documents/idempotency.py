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
        owner: who has given the name; what others call so is another write. '' for nobody in particular.
    """

    text: str
    digest: str
    owner: str = ""

    @property
    def name(self) -> str:
        """The name among all owners, of which no two share one."""
        return name_of(self.text, self.owner)

    @classmethod
    def of(cls, text: str, request: Sequence[bytes], owner: str = "") -> IdempotencyKey:
        """The key of a request, which its parts tell apart from every other one.

        Raises:
            InvalidArgumentError: the text is no key.
        """
        check_key(text)
        # With their lengths, so that no two lists of parts are one text.
        told = b"%d:" * len(request) % tuple(map(len, request)) + b"".join(request)
        return cls(text, blake2b(told, digest_size=_DIGEST_BYTES).hexdigest(), owner)


def name_of(text: str, owner: str) -> str:
    """The name of an owner's key among all of them: no key has a line feed."""
    return f"{text}\n{owner}" if owner else text


def text_of(name: str) -> str:
    """The key in such a name."""
    return name.partition("\n")[0]


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
