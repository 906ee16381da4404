"""API keys: `wb_<id>_<secret>`. The id finds the key; of the secret only its SHA-256 is kept.

A secret has 256 random bits, so a plain hash is as good as a slow one: nobody can try them all.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, replace
from hashlib import sha256
from hmac import compare_digest
from typing import Any, NamedTuple, Self

import orjson

from writebehind.access.rights import Rights
from writebehind.errors import InvalidArgumentError

#: Bytes of randomness in an id and in a secret.
ID_BYTES, SECRET_BYTES = 6, 32
#: A name of a key: one line that people recognise it by.
_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,100}")
#: What a name has not: `/admin/keys/<name>:rotate` would be another path, or mean another key.
_UNADDRESSED = frozenset("/:")
#: How each key begins, and nothing that others issue does.
BEGINNING = "wb_"
_TOKEN = re.compile(r"wb_([0-9a-f]{12})_([A-Za-z0-9_-]{43})", re.ASCII)
_ID = re.compile(r"[0-9a-f]{12}", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)


class Token(NamedTuple):
    """A token, which a client sends: the id of its key, and the secret."""

    id: str
    secret: str

    @classmethod
    def new(cls, key_id: str) -> Self:
        """A token with a new secret for a key."""
        return cls(key_id, secrets.token_urlsafe(SECRET_BYTES))

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read what a client sent; `None` for what is no token of ours."""
        found = _TOKEN.fullmatch(text)
        return None if found is None else cls(found[1], found[2])

    @property
    def text(self) -> str:
        """The token as a client sends it."""
        return f"wb_{self.id}_{self.secret}"

    @property
    def digest(self) -> str:
        """The SHA-256 of its secret, in hexadecimal digits."""
        return sha256(self.secret.encode()).hexdigest()


def new_id() -> str:
    """An id for a new key."""
    return secrets.token_hex(ID_BYTES)


def check_name(name: str) -> None:
    """See that a name can be one of a key: it can stand in a path, and is no id, by which another key is meant.

    Raises:
        InvalidArgumentError: it cannot.
    """
    if not _NAME.fullmatch(name) or name != name.strip():
        raise InvalidArgumentError("the name of a key is one line of up to 100 characters")
    if name in {".", ".."} or not _UNADDRESSED.isdisjoint(name):
        raise InvalidArgumentError(
            "the name of a key has no / and no :, and is not . or ..: no path could name it"
        )
    if _ID.fullmatch(name.lower()):
        raise InvalidArgumentError("the name of a key is none of 12 hexadecimal digits, as ids are")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key, without its secrets.

    Attributes:
        id: finds it.
        name: by which people know it.
        rights: what it allows.
        created_ms: when it was made, ms since 1970.
        expires_ms: from when on it is refused; `None` for never.
        digest: SHA-256 of its secret.
        rotations: how often it got a new secret.
        rotated_ms: when it got its secret, if it is not the first one.
        former: SHA-256 of the secret before that one; '' where there is none.
        former_until_ms: until when that is accepted as well.
        revoked_ms: since when it is refused; `None` where it is not revoked.
        rate: how many items its holder may send in a second, 0 for any number; `None` for what the settings say.
        concurrency: how many requests its holder may have at a time in a web process, in the same way.
    """

    id: str
    name: str
    rights: Rights
    created_ms: int
    expires_ms: int | None
    digest: str
    rotations: int = 0
    rotated_ms: int | None = None
    former: str = ""
    former_until_ms: int = 0
    revoked_ms: int | None = None
    rate: float | None = None
    concurrency: int | None = None

    @property
    def called(self) -> str:
        """The words for it in a refusal."""
        return f"the key {self.id}"

    def is_live(self, now_ms: float) -> bool:
        """Whether it is neither revoked nor expired."""
        return self.revoked_ms is None and (self.expires_ms is None or now_ms < self.expires_ms)

    def has(self, token: Token, now_ms: float) -> bool:
        """Whether a token is one of this key, be it live or not; decided in the same time for each secret."""
        digest = token.digest
        is_last = compare_digest(digest, self.digest)
        is_former = compare_digest(digest, self.former or "-" * len(digest)) and now_ms < self.former_until_ms
        return is_last or is_former

    def had(self, token: Token) -> bool:
        """Whether a token is the one before of this key, be it accepted or not."""
        return compare_digest(token.digest, self.former or "-" * len(token.digest))

    def accepts(self, token: Token, now_ms: float) -> bool:
        """Whether a token is one of this key, and that is live; decided in the same time for each secret."""
        return self.has(token, now_ms) and self.is_live(now_ms)

    @property
    def record(self) -> bytes:
        """The key as it is kept from its beginning, with its first secret."""
        return orjson.dumps(
            {
                "name": self.name,
                "allow": self.rights.grants,
                "created_ms": self.created_ms,
                "expires_ms": self.expires_ms,
                "sha256": self.digest,
            }
            | ({} if self.rate is None else {"rate": self.rate})
            | ({} if self.concurrency is None else {"concurrency": self.concurrency})
        )

    @classmethod
    def parse(cls, key_id: str, record: bytes) -> Self | None:
        """Read what `record` made; `None` for what other hands have put there."""
        if not _ID.fullmatch(key_id):
            return None
        try:
            found = orjson.loads(record)
            one = cls(
                key_id,
                str(found["name"]),
                Rights.parse(found["allow"]),
                int(found["created_ms"]),
                None if found["expires_ms"] is None else int(found["expires_ms"]),
                str(found["sha256"]),
                rate=None if found.get("rate") is None else max(0.0, float(found["rate"])),
                concurrency=None if found.get("concurrency") is None else max(0, int(found["concurrency"])),
            )
        except (ValueError, KeyError, TypeError, AttributeError, InvalidArgumentError):
            return None
        return one if _DIGEST.fullmatch(one.digest) else None

    def rotated(self, rotation: Rotation) -> Self:
        """The key with its next secret."""
        return replace(
            self,
            digest=rotation.digest,
            rotations=self.rotations + 1,
            rotated_ms=rotation.at_ms,
            former=self.digest,
            former_until_ms=rotation.former_until_ms,
        )

    def revoked(self, at_ms: int) -> Self:
        """The key once it is revoked."""
        return replace(self, revoked_ms=at_ms)

    def as_dict(self, now_ms: float) -> dict[str, Any]:
        """The key for people and programs: nothing of its secrets."""
        state = "revoked" if self.revoked_ms is not None else "live" if self.is_live(now_ms) else "expired"
        has_two = state == "live" and bool(self.former) and now_ms < self.former_until_ms
        return {
            "id": self.id,
            "name": self.name,
            "state": state,
            "allow": list(self.rights.grants),
            "created_ms": self.created_ms,
            "expires_ms": self.expires_ms,
            "rotated_ms": self.rotated_ms,
            "former_secret_until_ms": self.former_until_ms if has_two else None,
            "revoked_ms": self.revoked_ms,
            "rate": self.rate,
            "concurrency": self.concurrency,
        }


@dataclass(frozen=True, slots=True)
class Rotation:
    """A new secret: its SHA-256, since when there is one, and until when the one before is accepted, ms."""

    digest: str
    at_ms: int
    former_until_ms: int

    @property
    def record(self) -> bytes:
        """The rotation as it is kept."""
        return orjson.dumps({"sha256": self.digest, "at_ms": self.at_ms, "former_until_ms": self.former_until_ms})

    @classmethod
    def parse(cls, record: bytes) -> Self | None:
        """Read what `record` made; `None` for what other hands have put there."""
        try:
            found = orjson.loads(record)
            one = cls(str(found["sha256"]), int(found["at_ms"]), int(found["former_until_ms"]))
        except (ValueError, KeyError, TypeError):
            return None
        return one if _DIGEST.fullmatch(one.digest) else None
