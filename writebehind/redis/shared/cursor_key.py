"""The key that cursors of lists are signed with: made by the first process that signs one, and shared by all."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import Self

_RECORD = re.compile(rb"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class CursorKey:
    """The recorded key.

    Attributes:
        secret: 256 random bits.
    """

    secret: bytes

    @classmethod
    def new(cls) -> Self:
        """A key that nobody has."""
        return cls(secrets.token_bytes(32))

    @classmethod
    def parse(cls, record: bytes | None) -> Self | None:
        """Read what `record` made; `None` for nothing, or what other hands have written."""
        return cls(bytes.fromhex(record.decode())) if record and _RECORD.fullmatch(record) else None

    @property
    def record(self) -> bytes:
        """The key as it stands in Redis."""
        return self.secret.hex().encode()
